//! A connect storm: phones connect and disconnect again and again, this many at a time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::dial::{Dialer, Side, Socket};
use crate::link::{self, Ended};
use crate::traffic::Traffic;

/// The time that the relay has to answer a close frame and end the connection.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// The pause after a refusal.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs the storm until the end of the window.
pub(crate) async fn rage(
    dialer: &Arc<Dialer>,
    traffic: &Arc<Traffic>,
    server_ids: &Arc<[String]>,
    at_once: u16,
) {
    let mut tasks = JoinSet::new();
    for number in 0..at_once {
        let (dialer, traffic) = (Arc::clone(dialer), Arc::clone(traffic));
        let server_ids = Arc::clone(server_ids);
        tasks.spawn(async move {
            let server_id = &server_ids[usize::from(number) % server_ids.len()];
            while traffic.window.now() < traffic.window.to() {
                once(&dialer, &traffic, server_id, number).await;
            }
        });
    }
    tasks.join_all().await;
}

async fn once(dialer: &Dialer, traffic: &Traffic, server_id: &str, number: u16) {
    let began = traffic.window.now();
    let socket = match dialer.dial(Side::Phone, server_id).await {
        Ok(socket) => socket,
        Err(error) => {
            traffic.tally.error(format!("phone: {error}"));
            return sleep(PAUSE).await;
        }
    };
    let (key, now) = (number.into(), traffic.window.now());
    traffic.tally.arrived(key, began, now, &traffic.window);
    match timeout(CLOSING_TIME, close(socket)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => traffic.tally.error(format!("phone: {error}")),
        Err(_) => traffic
            .tally
            .error("phone: still connected after its close frame"),
    }
}

/// Closes cleanly. The relay ends the connection first, so the port in `TIME_WAIT` is the relay's own.
async fn close(mut socket: Socket) -> Result<(), String> {
    let bye = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    let sent = socket.send(Message::Close(Some(bye))).await;
    sent.map_err(|error| Ended::from(error).to_string())?;
    loop {
        match link::next(&mut socket).await {
            Ok(_) => {}
            Err(Ended::Closed(frame)) if frame.code == CloseCode::Normal => {}
            Err(Ended::Silently) => return Ok(()),
            Err(Ended::Lost) => return Err("close frame not answered".to_owned()),
            Err(ended) => return Err(ended.to_string()),
        }
    }
}
