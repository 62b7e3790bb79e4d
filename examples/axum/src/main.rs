//! A small WebSocket relay with axum and tokio.
//!
//! ```text
//! cargo run -p example-axum                               shows a conversation between clients of its own
//! cargo run -p example-axum -- --listen 127.0.0.1:8080    serves until it is interrupted
//! ```
//!
//! `relay.rs` is the relay: what the registry is for. `demonstration.rs` has the clients.

mod demonstration;
mod relay;

use std::error::Error;
use std::time::Duration;

use tokio::net::TcpListener;

use relay::Relay;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => demonstration::run().await,
        [flag, address] if flag == "--listen" => {
            let relay = Relay::new(Duration::from_secs(30), Duration::from_secs(10));
            let listener = TcpListener::bind(address).await?;
            println!("listening on {}", listener.local_addr()?);
            let interrupted = async {
                // Without a handler for the signal there is nothing to wait for: the signal ends the process.
                if tokio::signal::ctrl_c().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            relay.serve(listener, interrupted).await
        }
        _ => Err("usage: example-axum [--listen ADDRESS]".into()),
    }
}
