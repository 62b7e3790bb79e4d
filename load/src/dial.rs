//! Opens connections: TCP, TLS if requested, and the upgrade with the protocol's headers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future;
use rustls::Error as TlsError;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Error as WsError};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tokio_util::either::Either;

use crate::bare;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::options::Options;
use crate::sources::Sources;
use crate::tls;

/// Longer than a relay under load needs.
const LIMIT: Duration = Duration::from_secs(20);

/// Binaries are few, and each receives the frames of all its phones.
const READ_BUFFER_OF_BINARY: usize = 64 * 1024;
/// Phones are many, and each keeps a buffer for as long as it lives.
const READ_BUFFERS_OF_PHONE: [usize; 2] = [4 * 1024, 32 * 1024];

type WebSocket = WebSocketStream<Either<TcpStream, Box<TlsStream<TcpStream>>>>;

pub(crate) type Socket = future::Either<WebSocket, bare::Connection>;

#[derive(Clone, Copy)]
pub(crate) enum Side {
    Binary,
    Phone,
}

/// The reason why a connection failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("connection failed: {}", .0.kind())]
    Connect(io::Error),
    #[error("TLS failed: {0}{advice}", advice = advice_on_tls(.0))]
    Tls(io::Error),
    #[error("upgrade refused: {0}{advice}", advice = advice(*.0))]
    Refused(StatusCode),
    #[error("upgrade failed: {0}")]
    Upgrade(tungstenite::Error),
    #[error("no upgrade within {} s", LIMIT.as_secs())]
    Late,
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::TOO_MANY_REQUESTS => {
            " (the relay limits each address: start it with --rate-burst 0 and --max-per-address 0)"
        }
        StatusCode::SERVICE_UNAVAILABLE => " (the relay is full: raise its --max-connections)",
        _ => "",
    }
}

fn advice_on_tls(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(TlsError::InvalidCertificate(_)) => {
            " (trust it with --ca FILE, or skip verification with --insecure)"
        }
        _ => "",
    }
}

pub(crate) struct Dialer {
    endpoint: Endpoint,
    address: SocketAddr,
    sources: Sources,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The frame size, when there is no WebSocket.
    bare: Option<usize>,
    read_buffer_of_phone: usize,
}

impl Dialer {
    pub(crate) fn new(endpoint: Endpoint, options: &Options) -> Result<Self, Error> {
        let frame_size = options.frame as usize;
        let address = endpoint.resolve()?;
        let tls = if endpoint.secure {
            let name = ServerName::try_from(endpoint.host.trim_matches(['[', ']']).to_owned());
            let name = name.map_err(|error| Error::Usage(format!("--url: {error}")))?;
            Some((tls::connector(options.ca.as_deref())?, name))
        } else {
            None
        };
        let [least, most] = READ_BUFFERS_OF_PHONE;
        Ok(Self {
            endpoint,
            address,
            sources: Sources::default(),
            tls,
            bare: options.forwarder.as_ref().map(|_| frame_size),
            read_buffer_of_phone: frame_size.next_power_of_two().clamp(least, most),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn dial(&self, side: Side, server_id: &str) -> Result<Socket, DialError> {
        let opened = timeout(LIMIT, self.open(side, server_id)).await;
        opened.unwrap_or(Err(DialError::Late))
    }

    async fn open(&self, side: Side, server_id: &str) -> Result<Socket, DialError> {
        let stream = self.sources.connect(self.address).await;
        let stream = stream.map_err(DialError::Connect)?;
        if let Some(frame_size) = self.bare {
            return Ok(future::Either::Right(bare::connection(stream, frame_size)));
        }
        let stream = match &self.tls {
            None => Either::Left(stream),
            Some((tls, name)) => {
                let stream = tls.connect(name.clone(), stream).await;
                Either::Right(Box::new(stream.map_err(DialError::Tls)?))
            }
        };
        let request = self.request(side, server_id).map_err(DialError::Upgrade)?;
        let read_buffer = match side {
            Side::Binary => READ_BUFFER_OF_BINARY,
            Side::Phone => self.read_buffer_of_phone,
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(read_buffer)
            .max_frame_size(None)
            .max_message_size(None);
        match client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(future::Either::Left(socket)),
            Err(WsError::Http(response)) => Err(DialError::Refused(response.status())),
            Err(error) => Err(DialError::Upgrade(error)),
        }
    }

    fn request(&self, side: Side, server_id: &str) -> Result<Request, tungstenite::Error> {
        let (path, header) = match side {
            Side::Binary => ("/v1/server", "x-pyrycode-version"),
            Side::Phone => ("/v1/client", "x-pyrycode-token"),
        };
        let mut request = self.endpoint.url(path).into_client_request()?;
        let headers = request.headers_mut();
        headers.insert(header, HeaderValue::from_static("load"));
        headers.insert("x-pyrycode-server", server_id.try_into()?);
        headers.insert("user-agent", HeaderValue::from_static("switchboard-load"));
        Ok(request)
    }
}
