//! How a relay uses the registry: a daemon and a phone connect, exchange frames, disconnect and come back.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use switchboard::bytes::Bytes;
use switchboard::{Conn, Displaced, Registry, SendError};

/// In a relay, this has a queue and a socket. Here it prints.
struct Outbox(&'static str);

impl Conn for Outbox {
    fn conn_id(&self) -> &str {
        self.0
    }
    fn send(&self, frame: Bytes) -> Result<(), SendError> {
        println!("  {} receives {frame:?}", self.0);
        Ok(())
    }
    fn close(&self) {
        println!("  {} is closed", self.0);
    }
}

fn close_all(out: &Displaced<Outbox>) {
    for conn in out {
        conn.close();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let grace = Duration::from_secs(30);
    let registry = Registry::builder().max_phones(16).grace(grace).build();

    println!("a daemon claims its server-id, and a phone registers");
    let claim = registry.claim_server("laptop", Arc::new(Outbox("daemon")))?;
    let phone = registry.register_phone("laptop", Arc::new(Outbox("phone")))?;

    println!("frames go through the guards, with no lookup by key");
    phone.binary().ok_or("no binary")?.send("ping".into())?;
    claim
        .phone("phone")
        .ok_or("no phone")?
        .send("pong".into())?;

    println!("another daemon wants the same server-id, and is refused");
    let refused = registry.claim_server("laptop", Arc::new(Outbox("intruder")));
    let conflict = refused.expect_err("the daemon is there");
    println!("  {conflict}");
    conflict.into_conn().close();

    println!("the daemon drops: its server-id is in grace, and the next claim displaces the phone");
    drop(claim);
    println!("  {:?}", registry.counts());
    let claim = registry.claim_server("laptop", Arc::new(Outbox("daemon, back")))?;
    claim.displaced().into_iter().for_each(close_all);
    println!("  the phone sees a binary: {}", phone.binary().is_some());

    println!("it drops again and stays away until the deadline, for which a relay has a timer");
    drop(claim);
    let deadline = registry.next_deadline().ok_or("no grace")?;
    registry.expire(deadline).iter().for_each(close_all);
    println!("  {:?}", registry.counts());
    Ok(())
}
