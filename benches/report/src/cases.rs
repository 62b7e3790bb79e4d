//! What a run must have measured: every figure of the report is one of these.

/// The first one is ours.
pub(crate) const PEERS: [&str; 6] = [
    "switchboard",
    "std RwLock",
    "parking_lot RwLock",
    "DashMap",
    "scc",
    "papaya record",
];
pub(crate) const OURS: &str = PEERS[0];
pub(crate) const STD_LOCK: &str = PEERS[1];
pub(crate) const LOCK: &str = PEERS[2];
pub(crate) const DASHMAP: &str = PEERS[3];

#[derive(Clone, Copy)]
pub(crate) enum Threads {
    Exactly(usize),
    /// As many as the run had where it had more threads than cores.
    Many,
}

pub(crate) struct Case {
    pub(crate) group: &'static str,
    pub(crate) threads: &'static [Threads],
    pub(crate) peers: &'static [&'static str],
}

pub(crate) struct Theme {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) cases: &'static [Case],
}

const ONE: &[Threads] = &[Threads::Exactly(1)];
const TWO: &[Threads] = &[Threads::Exactly(2)];
const UP_TO_TWO: &[Threads] = &[Threads::Exactly(1), Threads::Exactly(2)];
const UP_TO_MANY: &[Threads] = &[Threads::Exactly(1), Threads::Exactly(2), Threads::Many];

const fn case(group: &'static str, threads: &'static [Threads]) -> Case {
    let peers = &PEERS;
    Case {
        group,
        threads,
        peers,
    }
}

const fn of(
    peers: &'static [&'static str],
    group: &'static str,
    threads: &'static [Threads],
) -> Case {
    Case {
        group,
        threads,
        peers,
    }
}

pub(crate) const THEMES: &[Theme] = &[
    Theme {
        name: "lookups",
        title: "Lookup by server-id",
        cases: &[
            case("binary_for, 1 server-ids", UP_TO_MANY),
            case("binary_for, 100 server-ids", UP_TO_MANY),
            case("binary_for, 10000 server-ids", UP_TO_MANY),
            case("binary_for, 1000000 server-ids", UP_TO_MANY),
            case("binary_for, unknown beside 10000 server-ids", UP_TO_MANY),
        ],
    },
    Theme {
        name: "handles",
        title: "Through a guard, against the others' lookup by key",
        cases: &[
            case("Membership::binary, 16 phones", UP_TO_TWO),
            case("Route::binary, 16 phones", UP_TO_TWO),
            case("Claim::phone, 16 phones", UP_TO_TWO),
            case("Claim::phones, 16 phones", UP_TO_TWO),
        ],
    },
    Theme {
        name: "phones",
        title: "The phones of a server-id, and one of them",
        cases: &[
            case("phones_for, 1 phones", UP_TO_TWO),
            case("phones_for, 16 phones", UP_TO_TWO),
            case("phones_for, 1000 phones", UP_TO_TWO),
            case("phones_for, 100000 phones", UP_TO_TWO),
            case("phone_for, 1 phones", UP_TO_TWO),
            case("phone_for, 16 phones", UP_TO_TWO),
            case("phone_for, 1000 phones", UP_TO_TWO),
            case("phone_for, 100000 phones", UP_TO_TWO),
        ],
    },
    Theme {
        name: "changes",
        title: "Phones and binaries that come and go",
        cases: &[
            case(
                "register + unregister, 1 phones, 100 server-ids",
                UP_TO_MANY,
            ),
            case("register + unregister, 16 phones, 1 server-ids", UP_TO_MANY),
            case(
                "register + unregister, 16 phones, 100 server-ids",
                UP_TO_MANY,
            ),
            case(
                "register + unregister, 16 phones, 10000 server-ids",
                UP_TO_MANY,
            ),
            case(
                "register + unregister, 1000 phones, 100 server-ids",
                UP_TO_MANY,
            ),
            case(
                "register + unregister, 100000 phones, 1 server-ids",
                UP_TO_MANY,
            ),
            case(
                "unregister + register an old phone, 16 phones, 100 server-ids",
                UP_TO_TWO,
            ),
            case(
                "unregister + register an old phone, 100000 phones, 1 server-ids",
                UP_TO_TWO,
            ),
            case("claim + release, fresh beside 10000 server-ids", UP_TO_MANY),
            case(
                "claim + release, returning beside 10000 server-ids",
                UP_TO_MANY,
            ),
            case("claim refused, 10000 server-ids", UP_TO_TWO),
            of(
                &[OURS],
                "release_after + reclaim, beside 10000 server-ids",
                UP_TO_TWO,
            ),
            of(
                &[OURS],
                "conflict + take_over, beside 10000 server-ids",
                UP_TO_TWO,
            ),
        ],
    },
    Theme {
        name: "crowd",
        title: "One thread, after many were alive at once",
        cases: &[
            of(AFTER_CROWDS, "register + unregister, after 1 threads", ONE),
            of(AFTER_CROWDS, "register + unregister, after 8 threads", ONE),
            of(AFTER_CROWDS, "register + unregister, after 64 threads", ONE),
            of(
                AFTER_CROWDS,
                "register + unregister, after 256 threads",
                ONE,
            ),
            of(
                AFTER_CROWDS,
                "register + unregister, after 512 threads",
                ONE,
            ),
            of(AFTER_CROWDS, "binary_for, after 1 threads", ONE),
            of(AFTER_CROWDS, "binary_for, after 8 threads", ONE),
            of(AFTER_CROWDS, "binary_for, after 64 threads", ONE),
            of(AFTER_CROWDS, "binary_for, after 256 threads", ONE),
            of(AFTER_CROWDS, "binary_for, after 512 threads", ONE),
        ],
    },
    Theme {
        name: "churn",
        title: "Lookups among changes",
        cases: &[
            case("binary_for beside churn, 10000 server-ids", TWO),
            case("phones_for beside churn, 16 phones", TWO),
            case("half lookups half changes, 16 phones", TWO),
        ],
    },
    Theme {
        name: "enumerations",
        title: "Counts and enumerations",
        cases: &[
            case("counts, 10000 server-ids", ONE),
            case("servers, 10000 server-ids", ONE),
            case("counts beside churn, 10000 server-ids", TWO),
            case("servers beside churn, 10000 server-ids", TWO),
        ],
    },
    Theme {
        name: "storms",
        title: "Everything at once",
        cases: &[
            case("mass disconnect, 100000 phones", ONE),
            of(&[OURS], "expire, 100000 graces", ONE),
            case("reconnect storm, 10000 phones", TWO),
            of(
                // The last one copies its list at each registration: minutes.
                PEERS.split_last().expect("there are peers").1,
                "reconnect storm, 100000 phones",
                TWO,
            ),
        ],
    },
];

/// The peers that are measured after crowds of threads.
pub(crate) const AFTER_CROWDS: &[&str] = &[OURS, LOCK];
/// How many threads were alive at once in each.
pub(crate) const CROWDS: [u16; 5] = [1, 8, 64, 256, 512];

/// Figures of the prose alone.
pub(crate) const ASIDES: &[Case] = &[
    of(&["loop"], "an empty round", ONE),
    of(&["papaya"], "borrowed, 1 server-ids", UP_TO_MANY),
    of(&["papaya"], "borrowed, 10000 server-ids", UP_TO_MANY),
    of(
        &["grown", "with capacity"],
        "binary_for, quiet hour, 1000 server-ids",
        ONE,
    ),
    of(
        &["grown", "with capacity"],
        "binary_for, quiet hour, 16000 server-ids",
        ONE,
    ),
];

pub(crate) const LATENCIES: &[&str] = &[
    "binary_for, 10000 server-ids",
    "phones_for, 16 phones",
    "register + unregister, 1 server-id",
];
pub(crate) const CLOCK: (&str, &str) = ("an empty interval", "clock");
pub(crate) const MEMORY: &[&str] = &["server-id", "phone"];

/// At least so many times as fast as the lock, in medians.
pub(crate) struct Floor {
    pub(crate) group: &'static str,
    pub(crate) threads: usize,
    pub(crate) ratio: f64,
}

const fn floor(group: &'static str, threads: usize, ratio: f64) -> Floor {
    Floor {
        group,
        threads,
        ratio,
    }
}

pub(crate) const FLOORS: &[Floor] = &[
    floor("binary_for, 1 server-ids", 2, 2.0),
    floor("binary_for, 10000 server-ids", 2, 1.3),
    floor("phones_for, 16 phones", 1, 2.0),
    floor("phones_for, 16 phones", 2, 3.0),
    floor("Membership::binary, 16 phones", 1, 1.0),
    floor("Membership::binary, 16 phones", 2, 3.0),
    floor("register + unregister, 16 phones, 100 server-ids", 2, 0.5),
    floor("register + unregister, 16 phones, 10000 server-ids", 2, 0.5),
    floor("claim + release, fresh beside 10000 server-ids", 2, 0.3),
    floor("counts, 10000 server-ids", 1, 100.0),
];
pub(crate) const TAIL_FLOOR: (&str, f64) = (LATENCIES[0], 5.0);
