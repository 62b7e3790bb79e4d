//! A binary and a phone talk through a relay of their own. Each step fails if it does not go as it says.

use std::error::Error;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::relay::{EXPIRED, RECLAIMED, Relay, STOPPING};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Long enough for the binary to come back in time on a busy machine.
const GRACE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Relay::new(GRACE, PATIENCE).serve(listener, async {
        // It completes when `stop` is dropped.
        let _ = stopped.await;
    });
    // If the server fails, the conversation ends too.
    tokio::try_join!(server, converse(&url, stop))?;
    println!("the relay has stopped");
    Ok(())
}

async fn converse(url: &str, stop: oneshot::Sender<()>) -> Result<()> {
    let (to_binary, to_phone) = (
        format!("{url}/binary/laptop"),
        format!("{url}/phone/laptop/anna"),
    );

    println!("a phone comes early, and waits for its binary");
    let early = tokio::spawn({
        let to_phone = to_phone.clone();
        async move { Client::connect("phone", &to_phone).await }
    });
    let mut binary = Client::connect("binary", &to_binary).await?;
    let mut phone = early.await??;
    phone.says("hello").await?;
    binary.hears("anna hello").await?;
    binary.says("anna welcome").await?;
    phone.hears("welcome").await?;

    println!("a second binary is refused");
    let second = connect_async(&to_binary).await;
    check(is_conflict(&second), "it must be refused")?;

    println!("the binary drops: its server-id is in grace, and the phone stays");
    drop(binary);
    let mut binary = come_back(&to_binary).await?;

    println!("it came back in time, which displaces the phone: the phone connects again");
    phone.is_closed_with(RECLAIMED).await?;
    let mut phone = Client::connect("phone", &to_phone).await?;
    phone.says("hello again").await?;
    binary.hears("anna hello again").await?;

    println!("the binary drops and stays away: the phone is closed when the grace ends");
    drop(binary);
    phone.is_closed_with(EXPIRED).await?;

    println!("the relay stops while a binary is connected");
    let mut binary = Client::connect("binary", &to_binary).await?;
    drop(stop);
    binary.is_closed_with(STOPPING).await
}

/// Connects a binary that was connected before. The relay refuses it until it has noticed that the old
/// connection has ended.
async fn come_back(url: &str) -> Result<Client> {
    loop {
        match connect_async(url).await {
            Ok((socket, _)) => {
                let name = "binary";
                return Ok(Client { name, socket });
            }
            refused if is_conflict(&refused) => sleep(Duration::from_millis(10)).await,
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_conflict<T>(connected: &Result<T, tungstenite::Error>) -> bool {
    matches!(connected, Err(tungstenite::Error::Http(response)) if response.status() == 409)
}

struct Client {
    name: &'static str,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    async fn connect(name: &'static str, url: &str) -> Result<Self> {
        let (socket, _) = connect_async(url).await?;
        Ok(Self { name, socket })
    }

    async fn says(&mut self, text: &str) -> Result<()> {
        println!("  {} says {text:?}", self.name);
        Ok(self.socket.send(Message::text(text)).await?)
    }

    async fn hears(&mut self, expected: &str) -> Result<()> {
        let message = self.next().await?;
        println!("  {} hears {:?}", self.name, message.to_text()?);
        check(message == Message::text(expected), expected)
    }

    async fn is_closed_with(&mut self, expected: u16) -> Result<()> {
        let message = self.next().await?;
        let Message::Close(Some(close)) = message else {
            return Err(format!("{message:?} instead of a close frame").into());
        };
        println!("  {} is closed: {close}", self.name);
        check(u16::from(close.code) == expected, "another close code")
    }

    async fn next(&mut self) -> Result<Message> {
        let message = timeout(PATIENCE, self.socket.next()).await?;
        Ok(message.ok_or("the connection ended without a close frame")??)
    }
}

fn check(holds: bool, what: &str) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(format!("the demonstration failed: {what}").into())
    }
}
