//! Tenants with plans: a cap on phones for each plan, proofs for reclaims, and a dashboard that follows every
//! change.
//!
//! ```text
//! cargo run --example tenants
//! ```
//!
//! A server-id is `TENANT/NAME`. The connections here have no sockets. The other examples have.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchboard::{
    Cause, Claim, ConflictKind, Conn, Displaced, Event, Events, Lagged, Membership, Orphans,
    RegisterError, Registry, SendError, Server, ServerIdConflict, Status, Version,
};

struct Connection {
    conn_id: String,
    /// What a binary must know to end its own grace. Phones have none.
    proof: Option<String>,
    closed: AtomicBool,
}

impl Connection {
    fn binary(proof: &str) -> Arc<Self> {
        Self::new("binary", Some(proof.to_owned()))
    }

    fn phone(conn_id: &str) -> Arc<Self> {
        Self::new(conn_id, None)
    }

    fn new(conn_id: &str, proof: Option<String>) -> Arc<Self> {
        Arc::new(Self {
            conn_id: conn_id.to_owned(),
            proof,
            closed: AtomicBool::new(false),
        })
    }
}

impl Conn for Connection {
    fn conn_id(&self) -> &str {
        &self.conn_id
    }

    fn send(&self, _frame: Bytes) -> Result<(), SendError> {
        Ok(())
    }

    fn close(&self) {
        self.closed.store(true, SeqCst);
    }
}

/// Closes connections that the registry has removed. The registry itself closes none.
fn close_displaced(out: &Displaced<Connection>) {
    for conn in out {
        conn.close();
    }
    let (server_id, cause, phones) = (&out.server_id, out.cause, out.phones.len());
    println!("  {server_id}: {cause:?}, {phones} phones closed");
}

/// What a tenant pays for.
struct Plan {
    /// For each server-id.
    max_phones: usize,
}

/// Lets connections in, each according to the plan of its tenant.
struct Gate {
    registry: Registry<Connection>,
    plans: HashMap<&'static str, Plan>,
}

impl Gate {
    /// Only a binary that shows the proof of the one that went away may end its grace. An epoch would be a
    /// poor proof: it is a number that others can guess.
    fn claim(
        &self,
        server_id: &str,
        binary: Arc<Connection>,
    ) -> Result<Claim<Connection>, ServerIdConflict<Connection>> {
        let shown = Arc::clone(&binary);
        let may_reclaim = |server: &Server<Connection>| {
            let away = server.binary();
            away.is_some_and(|away| away.proof == shown.proof)
        };
        let claim = self
            .registry
            .claim_server_if(server_id, binary, may_reclaim)?;
        claim.displaced().into_iter().for_each(close_displaced);
        Ok(claim)
    }

    /// The registry checks the cap in the same step in which it registers the phone. So the cap holds under
    /// any race.
    fn register(
        &self,
        server_id: &str,
        phone: Arc<Connection>,
    ) -> Result<Membership<Connection>, RegisterError<Connection>> {
        let plan = self.plans.get(tenant_of(server_id));
        let max_phones = plan.map_or(0, |plan| plan.max_phones);
        self.registry
            .register_phone_with_cap(server_id, phone, max_phones)
    }

    /// Ends what is over: graces, and the wait of phones whose binary has signed off. A relay calls this from
    /// a timer, as the other examples do.
    fn sweep(&self) -> Vec<Displaced<Connection>> {
        let over = self.registry.expire(Instant::now());
        over.iter().for_each(close_displaced);
        over
    }
}

fn tenant_of(server_id: &str) -> &str {
    server_id
        .split_once('/')
        .map_or(server_id, |(tenant, _)| tenant)
}

/// Knows the state of every server-id without asking for each of them again.
struct Dashboard {
    registry: Registry<Connection>,
    events: Events<Connection>,
    known: HashMap<Arc<str>, Known>,
    /// How often it had to list all server-ids.
    listings: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    version: Version,
    status: Status,
    phones: usize,
}

/// A row of the dashboard.
#[derive(Debug, Default, PartialEq)]
struct Usage {
    held: usize,
    in_grace: usize,
    phones: usize,
}

impl Dashboard {
    fn open(registry: &Registry<Connection>) -> Self {
        // First listen, then list. So a change that comes between the two is among the events. It may be in
        // the listing as well: the versions tell.
        let mut dashboard = Self {
            registry: registry.clone(),
            events: registry.events(),
            known: HashMap::new(),
            listings: 0,
        };
        dashboard.list();
        dashboard
    }

    fn list(&mut self) {
        self.listings += 1;
        self.known = list(&self.registry);
    }

    fn apply(&mut self, event: Result<Event, Lagged>) {
        match event {
            Ok(event) => self.change(event),
            // Some changes were missed. The same listener gets all that follow, so a new listing has no gap.
            Err(Lagged { .. }) => self.list(),
        }
    }

    fn change(&mut self, event: Event) {
        let known = self.known.get(&event.server_id);
        if known.is_some_and(|known| event.version <= known.version) {
            return; // The listing has it already.
        }
        match event.status {
            Some(status) => {
                let known = Known {
                    version: event.version,
                    status,
                    phones: event.phones,
                };
                self.known.insert(event.server_id, known);
            }
            // It has left the registry.
            None => drop(self.known.remove(&event.server_id)),
        }
    }

    /// Applies the events that are there already.
    fn catch_up(&mut self) {
        while let Some(event) = self.events.try_next() {
            self.apply(event);
        }
    }

    /// Applies events until `over`.
    fn follow(&mut self, over: impl Fn() -> bool) {
        while !over() {
            let soon = Instant::now() + Duration::from_millis(10);
            // In async code: `self.events.next().await`.
            if let Some(event) = self.events.next().block_until(soon) {
                self.apply(event);
            }
        }
        self.catch_up();
    }

    fn usage(&self) -> BTreeMap<&str, Usage> {
        let mut usage = BTreeMap::<_, Usage>::new();
        for (server_id, known) in &self.known {
            let row = usage.entry(tenant_of(server_id)).or_default();
            row.held += usize::from(known.status == Status::Held);
            row.in_grace += usize::from(matches!(known.status, Status::Grace { .. }));
            row.phones += known.phones;
        }
        usage
    }

    fn print(&mut self) {
        self.catch_up();
        for (tenant, usage) in self.usage() {
            println!("  {tenant}: {usage:?}");
        }
    }
}

/// The state of every server-id, each at one instant.
fn list(registry: &Registry<Connection>) -> HashMap<Arc<str>, Known> {
    let known = |server: Server<Connection>| {
        let known = Known {
            version: server.version(),
            status: server.status(),
            phones: server.phones().len(),
        };
        (server.server_id().into(), known)
    };
    registry.servers().map(known).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let registry = Registry::builder()
        .grace(Duration::from_secs(30))
        .orphans(Orphans::Displace)
        .build();
    let gate = Gate {
        registry: registry.clone(),
        plans: HashMap::from([
            ("acme", Plan { max_phones: 3 }),
            ("zoe", Plan { max_phones: 1 }),
        ]),
    };
    let mut dashboard = Dashboard::open(&registry);

    println!("acme's plan allows three phones for each server-id, and zoe's one");
    let acme = gate.claim("acme/desk", Connection::binary("acme's secret"))?;
    let zoe = gate.claim("zoe/laptop", Connection::binary("zoe's secret"))?;
    let one = gate.register("acme/desk", Connection::phone("one"))?;
    let _two = gate.register("acme/desk", Connection::phone("two"))?;
    let _three = gate.register("acme/desk", Connection::phone("three"))?;
    let only = gate.register("zoe/laptop", Connection::phone("one"))?;
    for full in ["acme/desk", "zoe/laptop"] {
        let refused = gate.register(full, Connection::phone("one more"));
        let refused = refused.err().ok_or("above the cap")?;
        assert!(matches!(refused, RegisterError::AtCapacity(_)));
        println!("  {full}: {refused}");
    }
    dashboard.print();

    println!("acme's binary drops: only its proof ends the grace, and displaces the phones");
    drop(acme);
    dashboard.print();
    let stranger = gate.claim("acme/desk", Connection::binary("a guess"));
    let denied = stranger.err().ok_or("a stranger got in")?;
    assert_eq!(denied.kind(), ConflictKind::ReclaimDenied);
    assert!(one.is_registered(), "the stranger displaced nobody");
    println!("  {denied}");
    let acme = gate.claim("acme/desk", Connection::binary("acme's secret"))?;
    assert!(one.conn().closed.load(SeqCst));
    dashboard.print();

    println!("zoe's binary signs off: no other binary gets its phones");
    zoe.release();
    let over = gate.sweep();
    assert!(matches!(&over[..], [out] if out.cause == Cause::Released));
    assert!(only.conn().closed.load(SeqCst));
    dashboard.print();
    assert_eq!(dashboard.usage().len(), 1, "only acme is left");
    drop(acme);

    println!("another dashboard begins in the middle of many changes, and follows them");
    let (mut late, over) = (None, AtomicBool::new(false));
    thread::scope(|scope| {
        let tenants = ["ann", "bob"].map(|tenant| {
            let gate = &gate;
            scope.spawn(move || come_and_go(gate, tenant))
        });
        scope.spawn(|| {
            let dashboard = late.insert(Dashboard::open(&registry));
            dashboard.follow(|| over.load(SeqCst));
        });
        for tenant in tenants {
            // A panic here is reported again by the scope.
            let _ = tenant.join();
        }
        over.store(true, SeqCst);
    });
    let late = late.ok_or("the dashboard ended early")?;
    assert_eq!(late.known, list(&registry));
    println!(
        "  it knows what the registry knows, after listing it {} times",
        late.listings
    );

    println!(
        "the first dashboard has read nothing meanwhile: it has lagged, and lists everything anew"
    );
    dashboard.print();
    assert_eq!(dashboard.listings, 2);
    assert_eq!(dashboard.known, late.known);
    Ok(())
}

/// Many changes, so that whoever reads no events lags. Some server-ids are in grace in the end.
fn come_and_go(gate: &Gate, tenant: &str) {
    for i in 0..6_000 {
        let server_id = format!("{tenant}/{}", i % 10);
        let binary = gate
            .registry
            .claim_server(&server_id, Connection::binary("a secret"));
        if i % 3 == 0 {
            drop(binary.map(Claim::release));
        }
    }
}
