//! What becomes of the phones of a server-id: each cell of the table in the crate's documentation.

mod common;

use std::fmt;
use std::fs;
use std::path::Path;

use common::{Wire, assert_counts_are_exact, at, binary_id, ids, seconds, wire};
use switchboard::{
    Cause, Claim, Conn, Displaced, Membership, Orphans, Registry, ServerIdConflict, Status,
};

/// The state in which a row of the table begins.
#[derive(Clone, Copy)]
enum Before {
    Held,
    InGrace,
    Vacant,
}
use Before::{Held, InGrace, Vacant};

/// What becomes of the phones.
#[derive(Clone, Copy)]
enum Fate {
    StayWithTheirBinary,
    StayWithTheBinaryThatWentAway,
    StayWithoutABinary,
    StayWithTheNewBinary,
    Displaced(Cause),
}
use Fate::{
    StayWithTheBinaryThatWentAway, StayWithTheNewBinary, StayWithTheirBinary, StayWithoutABinary,
};

/// As the table says it.
impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StayWithTheirBinary => f.write_str("stay, with their binary"),
            StayWithTheBinaryThatWentAway => f.write_str("stay, with the binary that went away"),
            StayWithoutABinary => f.write_str("stay, without a binary"),
            StayWithTheNewBinary => f.write_str("stay, with the new binary"),
            Fate::Displaced(cause) => write!(f, "displaced: [`{cause:?}`](Cause::{cause:?})"),
        }
    }
}

/// A server-id with the binary "b" and the phone "p".
struct Scene {
    registry: Registry<Wire>,
    claim: Claim<Wire>,
    /// The refused claim of "new", from when the server-id was held.
    conflict: ServerIdConflict<Wire>,
    phone: Membership<Wire>,
}

impl Scene {
    fn new(orphans: Orphans, with_grace: bool, from: Before) -> Self {
        let builder = Registry::builder().orphans(orphans);
        let registry = if with_grace {
            builder.grace(seconds(60)).build()
        } else {
            builder.build()
        };
        let claim = registry.claim_server("s", wire("b")).unwrap();
        let phone = registry.register_phone("s", wire("p")).unwrap();
        let conflict = registry.claim_server("s", wire("new")).unwrap_err();
        match from {
            Held => {}
            InGrace => assert!(registry.release_claim_after("s", claim.epoch(), seconds(60))),
            Vacant => assert!(registry.release_server("s")),
        }
        Self {
            registry,
            claim,
            conflict,
            phone,
        }
    }
}

/// What an action leaves: the claim that it made, and what it displaced.
#[derive(Default)]
struct Left {
    claim: Option<Claim<Wire>>,
    out: Vec<Displaced<Wire>>,
}

impl Left {
    fn claimed(mut claim: Claim<Wire>) -> Self {
        let out = claim.take_displaced().into_iter().collect();
        let claim = Some(claim);
        Self { claim, out }
    }

    fn out(out: impl IntoIterator<Item = Displaced<Wire>>) -> Self {
        let out = out.into_iter().collect();
        Self { claim: None, out }
    }

    fn nothing(done: bool) -> Self {
        assert!(done);
        Self::default()
    }
}

/// Acts on a server-id. Takes the guard of its claim, and the conflict from when it was held.
type Act = fn(&Registry<Wire>, Claim<Wire>, ServerIdConflict<Wire>) -> Left;

struct Row {
    /// As the table says it.
    what: &'static str,
    /// `Some` if the row is only about registries with, or without, a grace of their own.
    with_grace: Option<bool>,
    /// Every call that the row is about.
    acts: &'static [(Before, Act)],
    keep: Fate,
    displace: Fate,
}

const fn row(what: &'static str, acts: &'static [(Before, Act)], fate: Fate) -> Row {
    split_row(what, acts, fate, fate)
}

const fn split_row(
    what: &'static str,
    acts: &'static [(Before, Act)],
    keep: Fate,
    displace: Fate,
) -> Row {
    Row {
        what,
        with_grace: None,
        acts,
        keep,
        displace,
    }
}

const TABLE: &[Row] = &[
    row(
        "the server-id is released, also during a grace",
        &[
            (Held, |_, claim, _| Left::nothing(claim.release())),
            (InGrace, |_, claim, _| Left::nothing(claim.release())),
            (Held, |registry, _, _| {
                Left::nothing(registry.release_server("s"))
            }),
            (InGrace, |registry, _, _| {
                Left::nothing(registry.release_server("s"))
            }),
            (Held, |registry, claim, _| {
                Left::nothing(registry.release_claim("s", claim.epoch()))
            }),
            (InGrace, |registry, claim, _| {
                Left::nothing(registry.release_claim("s", claim.epoch()))
            }),
        ],
        StayWithoutABinary,
    ),
    Row {
        with_grace: Some(false),
        ..row(
            "the claim is dropped, in a registry without `.grace()`",
            &[(Held, |_, claim, _| {
                drop(claim);
                Left::default()
            })],
            StayWithoutABinary,
        )
    },
    Row {
        with_grace: Some(true),
        ..row(
            "the claim is dropped, in a registry with `.grace()`",
            &[(Held, |_, claim, _| {
                drop(claim);
                Left::default()
            })],
            StayWithTheBinaryThatWentAway,
        )
    },
    row(
        "a grace begins, or its deadline moves",
        &[
            (Held, |_, claim, _| {
                Left::nothing(claim.release_after(seconds(9)))
            }),
            (InGrace, |_, claim, _| {
                Left::nothing(claim.release_after(seconds(9)))
            }),
            (Held, |_, claim, _| {
                Left::nothing(claim.release_until(at(9)))
            }),
            (InGrace, |_, claim, _| {
                Left::nothing(claim.release_until(at(9)))
            }),
            (Held, |registry, claim, _| {
                Left::nothing(registry.release_claim_after("s", claim.detach(), seconds(9)))
            }),
            (InGrace, |registry, claim, _| {
                Left::nothing(registry.release_claim_until("s", claim.detach(), at(9)))
            }),
        ],
        StayWithTheBinaryThatWentAway,
    ),
    row(
        "a claim succeeds during the grace",
        &[
            (InGrace, |registry, _, _| {
                Left::claimed(registry.claim_server("s", wire("new")).unwrap())
            }),
            (InGrace, |registry, _, _| {
                let claim = registry.claim_server_if("s", wire("new"), |_| true);
                Left::claimed(claim.unwrap())
            }),
            (InGrace, |_, _, conflict| {
                Left::claimed(conflict.take_over().unwrap())
            }),
        ],
        Fate::Displaced(Cause::Reclaimed),
    ),
    row(
        "the condition of `claim_server_if` refuses a claim during the grace",
        &[(InGrace, |registry, _, _| {
            let refused = registry.claim_server_if("s", wire("new"), |_| false);
            Left::nothing(refused.is_err())
        })],
        StayWithTheBinaryThatWentAway,
    ),
    row(
        "a claim is refused because the server-id is held",
        &[
            (Held, |registry, claim, _| {
                let refused = registry.claim_server("s", wire("new")).is_err();
                claim.detach();
                Left::nothing(refused)
            }),
            (Held, |registry, claim, _| {
                let refused = registry.claim_server_if("s", wire("new"), |_| true);
                claim.detach();
                Left::nothing(refused.is_err())
            }),
        ],
        StayWithTheirBinary,
    ),
    row(
        "another binary takes over a server-id that is held",
        &[(Held, |_, _, conflict| {
            Left::claimed(conflict.take_over().unwrap())
        })],
        Fate::Displaced(Cause::TakenOver),
    ),
    split_row(
        "a binary claims a vacant server-id",
        &[
            (Vacant, |registry, _, _| {
                Left::claimed(registry.claim_server("s", wire("new")).unwrap())
            }),
            (Vacant, |registry, _, _| {
                let claim = registry.claim_server_if("s", wire("new"), |_| false);
                Left::claimed(claim.unwrap())
            }),
            (Vacant, |_, _, conflict| {
                Left::claimed(conflict.take_over().unwrap())
            }),
        ],
        StayWithTheNewBinary,
        Fate::Displaced(Cause::Released),
    ),
    row(
        "`expire` ends the grace",
        &[(InGrace, |registry, _, _| Left::out(registry.expire(at(60))))],
        Fate::Displaced(Cause::Expired),
    ),
    row(
        "`expire` comes before the deadline",
        &[(InGrace, |registry, _, _| Left::out(registry.expire(at(0))))],
        StayWithTheBinaryThatWentAway,
    ),
    split_row(
        "`expire` comes to a vacant server-id",
        &[(Vacant, |registry, _, _| Left::out(registry.expire(at(0))))],
        StayWithoutABinary,
        Fate::Displaced(Cause::Released),
    ),
    row(
        "the server-id is evicted, whatever its status",
        &[
            (Held, |_, claim, _| Left::out(claim.evict())),
            (InGrace, |_, claim, _| Left::out(claim.evict())),
            (Held, |registry, _, _| Left::out(registry.evict_server("s"))),
            (InGrace, |registry, _, _| {
                Left::out(registry.evict_server("s"))
            }),
            (Vacant, |registry, _, _| {
                Left::out(registry.evict_server("s"))
            }),
        ],
        Fate::Displaced(Cause::Evicted),
    ),
    row(
        "the registry is drained",
        &[
            (Held, |registry, _, _| Left::out(registry.drain())),
            (InGrace, |registry, _, _| Left::out(registry.drain())),
            (Vacant, |registry, _, _| Left::out(registry.drain())),
        ],
        Fate::Displaced(Cause::Drained),
    ),
];

/// The binary of a server-id that was displaced leaves together with its phones.
fn leaves_with_its_phones(from: Before) -> Option<&'static str> {
    match from {
        Held | InGrace => Some("b"),
        Vacant => None,
    }
}

fn check(row: &Row, orphans: Orphans, with_grace: bool, from: Before, act: Act, fate: Fate) {
    let scene = Scene::new(orphans, with_grace, from);
    let (registry, phone) = (&scene.registry, &scene.phone);
    let left = act(registry, scene.claim, scene.conflict);
    let place = format!("{}, {orphans:?}, with a grace: {with_grace}", row.what);

    let binary = phone.binary();
    let seen = binary
        .as_ref()
        .map(|binary| (binary.conn_id(), matches!(binary.status(), Status::Held)));
    let expected = match fate {
        StayWithTheirBinary => Some(("b", true)),
        StayWithTheBinaryThatWentAway => Some(("b", false)),
        StayWithTheNewBinary => Some(("new", true)),
        StayWithoutABinary | Fate::Displaced(_) => None,
    };
    assert_eq!(seen, expected, "the binary that the phone sees: {place}");

    let displaced: Vec<_> = left
        .out
        .iter()
        .map(|out| (out.cause, binary_id(out), ids(&out.phones)))
        .collect();
    let expected = match fate {
        Fate::Displaced(cause) => {
            vec![(cause, leaves_with_its_phones(from), vec!["p".to_owned()])]
        }
        _ => Vec::new(),
    };
    assert_eq!(displaced, expected, "what was displaced: {place}");
    let stays = expected.is_empty();
    assert_eq!(phone.is_registered(), stays, "{place}");
    assert_eq!(
        registry.phones_for("s").len(),
        usize::from(stays),
        "{place}"
    );

    if let Some(claim) = &left.claim {
        assert_eq!(claim.phones().len(), usize::from(stays), "{place}");
        assert_eq!(registry.binary_for("s").unwrap().conn_id(), "new");
    }
    assert_counts_are_exact(registry);
}

#[test]
fn of_the_phones_are_those_of_the_table() {
    for row in TABLE {
        for with_grace in [false, true] {
            if row.with_grace.is_some_and(|only| only != with_grace) {
                continue;
            }
            for &(from, act) in row.acts {
                check(row, Orphans::Keep, with_grace, from, act, row.keep);
                check(row, Orphans::Displace, with_grace, from, act, row.displace);
            }
        }
    }
}

#[test]
fn in_the_documentation_are_those_that_are_tested() {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let lib = fs::read_to_string(lib).unwrap();
    let documented: Vec<_> = lib
        .split_once("//! # What becomes of the phones")
        .expect("the section has this title")
        .1
        .lines()
        .skip_while(|line| !line.starts_with("//! | ---"))
        .skip(1)
        .take_while(|line| line.starts_with("//! |"))
        .collect();
    let cells = |row: &Row| {
        let (keep, displace) = (row.keep.to_string(), row.displace.to_string());
        let displace = if keep == displace {
            "the same".to_owned()
        } else {
            displace
        };
        format!("//! | {} | {keep} | {displace} |", row.what)
    };
    let tested: Vec<_> = TABLE.iter().map(cells).collect();
    assert_eq!(documented, tested);
}
