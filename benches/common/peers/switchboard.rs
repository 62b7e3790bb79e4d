//! The registry itself.

use std::sync::Arc;

use switchboard::{Claim, ConnRef, Membership, Phones, Registry};

use super::{Peer, Wire};

#[derive(Default)]
pub struct Switchboard(pub Registry<Wire>);

impl Peer for Switchboard {
    const NAME: &'static str = "switchboard";
    type Conn = ConnRef<Wire>;
    type Phones = Phones<Wire>;

    fn claim(&self, server_id: &str, conn: Arc<Wire>) -> bool {
        let claimed = self.0.claim_server(server_id, conn);
        claimed.map(Claim::detach).is_ok()
    }

    fn release(&self, server_id: &str) -> bool {
        self.0.release_server(server_id)
    }

    fn register(&self, server_id: &str, conn: Arc<Wire>) -> bool {
        let registered = self.0.register_phone(server_id, conn);
        registered.map(Membership::detach).is_ok()
    }

    fn unregister(&self, server_id: &str, conn_id: &str) -> bool {
        self.0.unregister_phone(server_id, conn_id).is_some()
    }

    fn evict(&self, server_id: &str) -> Option<(Option<Arc<Wire>>, Phones<Wire>)> {
        let out = self.0.evict_server(server_id)?;
        Some((out.binary, out.phones))
    }

    fn binary_for(&self, server_id: &str) -> Option<ConnRef<Wire>> {
        self.0.binary_for(server_id)
    }

    fn phone_for(&self, server_id: &str, conn_id: &str) -> Option<ConnRef<Wire>> {
        self.0.phone_for(server_id, conn_id)
    }

    fn phones_for(&self, server_id: &str) -> Phones<Wire> {
        self.0.phones_for(server_id)
    }

    fn counts(&self) -> (usize, usize) {
        let counts = self.0.counts();
        (counts.binaries, counts.phones)
    }

    fn servers(&self) -> usize {
        self.0.servers().count()
    }

    fn visit(&self, server_id: &str, conn: &Arc<Wire>) {
        drop(self.0.register_phone(server_id, conn.clone()));
    }

    fn stay(&self, server_id: &str, conn: &Arc<Wire>) {
        drop(self.0.claim_server(server_id, conn.clone()));
    }
}
