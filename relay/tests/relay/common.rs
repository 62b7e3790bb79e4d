use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt, stream};
use serde_json::Value;
use switchboard_relay::{Config, Error, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// The time limit of a test: more than any test needs.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test with a time limit.
pub(crate) async fn within<T>(test: impl Future<Output = T>) -> T {
    timeout(LIMIT, test).await.expect("the test hangs")
}

/// A relay in the process of the test.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Relay {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(flags: &[&str]) -> Self {
        let args = [
            "switchboard-relay",
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
            "--rate-burst",
            "0",
            "--max-per-address",
            "0",
        ];
        let config = Config::from_args(args.iter().chain(flags)).expect("good flags");
        let server = Server::bind(config).await.expect("a free port");
        let address = server.address();
        let metrics = server.metrics_address().expect("a free port");
        let (stop, stopped) = oneshot::channel();
        let stopped = stream::once(async { drop(stopped.await) });
        let task = tokio::spawn(server.run(stopped));
        Self {
            address,
            metrics,
            stop,
            task,
        }
    }

    /// Stops the relay, and returns its task.
    pub(crate) fn stop(self) -> JoinHandle<Result<(), Error>> {
        self.stop.send(()).expect("the relay runs");
        self.task
    }

    /// Connects a binary, and waits until it has claimed.
    pub(crate) async fn binary(&self, server_id: &str) -> Client {
        let before = health(self.address).await.binaries;
        let binary = Client::binary(self.address, server_id).await;
        self.until(|health| health.binaries == before + 1).await;
        binary
    }

    /// Connects a phone, and waits until it has registered. Returns its conn-id, which the binary learns from its first frame.
    pub(crate) async fn phone(&self, server_id: &str, binary: &mut Client) -> (Client, String) {
        let mut phone = Client::phone(self.address, server_id).await;
        phone.send(r#""hello""#).await;
        let envelope = binary.envelope().await;
        assert_eq!(envelope["frame"], "hello");
        let conn_id = envelope["conn_id"].as_str().expect("a string").to_owned();
        (phone, conn_id)
    }

    /// The value of a series.
    pub(crate) async fn metric(&self, series: &str) -> u64 {
        let answer = http(self.metrics, "GET /metrics HTTP/1.1", b"").await;
        let value = |line: &str| Some(line.strip_prefix(series)?.trim_start().parse());
        let value = answer.body().lines().find_map(value);
        let value = value.unwrap_or_else(|| panic!("there is no {series}"));
        value.expect("a count")
    }

    /// Waits until a series has the wanted value.
    pub(crate) async fn metric_until(&self, series: &str, wanted: u64) {
        while self.metric(series).await != wanted {
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the health is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Health) -> bool) {
        loop {
            let health = health(self.address).await;
            if wanted(&health) {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
}

pub(crate) struct Health {
    pub(crate) binaries: u64,
    pub(crate) phones: u64,
}

async fn health(address: SocketAddr) -> Health {
    let answer = http(address, "GET /healthz HTTP/1.1", b"").await;
    let body: Value = serde_json::from_str(answer.body()).expect("JSON");
    let count = |key: &str| body[key].as_u64().expect("a count");
    Health {
        binaries: count("connected_binaries"),
        phones: count("connected_phones"),
    }
}

/// The response to a plain HTTP request.
pub(crate) struct Answer(String);

impl Answer {
    pub(crate) fn status(&self) -> &str {
        self.0.split(' ').nth(1).expect("a status line")
    }

    pub(crate) fn has_header(&self, line: &str) -> bool {
        let head = self.0.split("\r\n\r\n").next().expect("a head");
        head.lines().any(|it| it.eq_ignore_ascii_case(line))
    }

    pub(crate) fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").expect("a body").1
    }
}

/// The headers of a request that asks for WebSocket.
pub(crate) const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

/// Sends a plain HTTP request with these header lines.
pub(crate) async fn http(address: SocketAddr, request: &str, headers: &[u8]) -> Answer {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let head = format!("{request}\r\nHost: localhost\r\nConnection: close\r\n");
    let request = [head.as_bytes(), headers, b"\r\n"].concat();
    socket.write_all(&request).await.expect("it reads");
    let mut answer = String::new();
    socket
        .read_to_string(&mut answer)
        .await
        .expect("it answers");
    Answer(answer)
}

/// A binary or a phone.
pub(crate) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(crate) async fn binary(address: SocketAddr, server_id: &str) -> Self {
        let headers = [("X-Pyrycode-Version", "1.0")];
        Self::connect(address, "/v1/server", server_id, headers).await
    }

    pub(crate) async fn phone(address: SocketAddr, server_id: &str) -> Self {
        let headers = [("X-Pyrycode-Token", "secret-token")];
        Self::connect(address, "/v1/client", server_id, headers).await
    }

    async fn connect(
        address: SocketAddr,
        path: &str,
        server_id: &str,
        headers: [(&'static str, &str); 1],
    ) -> Self {
        let url = format!("ws://{address}{path}");
        let mut request = url.into_client_request().expect("a URL");
        let common = [("X-Pyrycode-Server", server_id), ("User-Agent", "test")];
        for (name, value) in headers.into_iter().chain(common) {
            let value = value.as_bytes().try_into().expect("a header value");
            request.headers_mut().insert(name, value);
        }
        let (socket, _) = connect_async(request).await.expect("an upgrade");
        Self(socket)
    }

    pub(crate) async fn message(&mut self, message: Message) {
        self.0.send(message).await.expect("the relay is there");
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.message(Message::text(text)).await;
    }

    /// The next message. The library answers pings while this is polled.
    async fn next(&mut self) -> Option<Result<Message, WsError>> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Ping(_))) => {}
                other => return other,
            }
        }
    }

    /// The next frame. The relay sends text messages only.
    pub(crate) async fn frame(&mut self) -> Utf8Bytes {
        match self.next().await {
            Some(Ok(Message::Text(frame))) => frame,
            other => panic!("expected a frame, got {other:?}"),
        }
    }

    /// The next frame, if it has arrived already.
    pub(crate) fn frame_now(&mut self) -> Option<Utf8Bytes> {
        self.frame().now_or_never()
    }

    /// The payload of a pong, which must be the next message but for pings.
    pub(crate) async fn pong(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Pong(payload))) => String::from_utf8(payload.to_vec()).expect("UTF-8"),
            other => panic!("expected a pong, got {other:?}"),
        }
    }

    pub(crate) async fn envelope(&mut self) -> Value {
        serde_json::from_str(&self.frame().await).expect("JSON")
    }

    /// Code and reason of the close frame, which must be the next message.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        match self.next().await {
            Some(Ok(Message::Close(Some(frame)))) => {
                let closed = (frame.code.into(), frame.reason.to_string());
                // Sends the reply, and waits until the relay closes the connection.
                while let Some(Ok(_)) = self.0.next().await {}
                closed
            }
            other => panic!("expected a close frame, got {other:?}"),
        }
    }

    /// The number of frames before the close frame, and its code and reason.
    pub(crate) async fn closed_at_last(&mut self) -> (usize, (u16, String)) {
        let mut frames = 0;
        loop {
            match self.next().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frames, (frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => frames += 1,
                other => panic!("expected a close frame, got {other:?}"),
            }
        }
    }

    /// Waits until there is something to read, without reading it.
    pub(crate) async fn readable(&self) {
        let MaybeTlsStream::Plain(socket) = self.0.get_ref() else {
            panic!("no test here uses TLS");
        };
        socket.peek(&mut [0]).await.expect("the relay is there");
    }

    /// Reads until the connection ends, in whatever way.
    pub(crate) async fn gone(mut self) {
        while let Some(Ok(_)) = self.0.next().await {}
    }

    /// Reads, and so answers, that many pings. Fails at any other message.
    pub(crate) async fn pings(&mut self, count: usize) {
        for _ in 0..count {
            match self.0.next().await {
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("expected a ping, got {other:?}"),
            }
        }
    }

    /// Sends one message of that many bytes without reading meanwhile. Returns code and reason of the close frame.
    pub(crate) async fn upload(mut self, bytes: u32) -> (u16, String) {
        let socket = self.0.get_mut();
        // FIN, binary; masked, with a length of 64 bits; a mask of zeros.
        let head = [&[0x82, 0xff, 0, 0, 0, 0][..], &bytes.to_be_bytes(), &[0; 4]].concat();
        socket.write_all(&head).await.expect("the relay is there");
        for _ in 0..bytes / 4096 {
            socket.write_all(&[0; 4096]).await.expect("it reads on");
        }
        self.closed().await
    }

    /// Sends an endless message byte by byte, and reads meanwhile, which answers pings. Returns code and reason of the close
    /// frame.
    pub(crate) async fn trickle(mut self) -> (u16, String) {
        // Text; masked, with a length of 64 bits; a mask of zeros.
        let head = [0x81, 0xff, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
        self.0.get_mut().write_all(&head).await.expect("it reads");
        loop {
            match timeout(Duration::from_millis(10), self.next()).await {
                Ok(Some(Ok(Message::Close(Some(frame))))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Ok(other) => panic!("expected a close frame, got {other:?}"),
                Err(_) => self.0.get_mut().write_all(b"1").await.expect("it reads"),
            }
        }
    }

    /// Sends a close frame.
    pub(crate) async fn start_closing(&mut self, code: u16) {
        let frame = CloseFrame {
            code: code.into(),
            reason: "bye".into(),
        };
        self.message(Message::Close(Some(frame))).await;
    }

    /// Closes with a complete closing handshake.
    pub(crate) async fn close(mut self, code: u16) {
        self.start_closing(code).await;
        while let Some(Ok(_)) = self.0.next().await {}
    }
}

/// The envelope of a frame for a phone.
pub(crate) fn to(conn_id: &str, frame: &str) -> String {
    let conn_id = Value::from(conn_id);
    format!(r#"{{"conn_id":{conn_id},"frame":{frame}}}"#)
}

/// A JSON string of that many bytes.
pub(crate) fn json_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}
