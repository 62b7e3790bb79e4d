//! The feature `serde`: the exact JSON of each type. Needs the feature, so `cargo test --workspace` skips it.

use std::time::{Duration, Instant};

use serde_json::{from_str, to_string};
use switchboard::bytes::Bytes;
use switchboard::{Broadcast, Cause, Conn, Counts, Registry, SendError, Status};

struct Wire;

impl Conn for Wire {
    fn conn_id(&self) -> &'static str {
        "wire"
    }
    fn send(&self, _: Bytes) -> Result<(), SendError> {
        Ok(())
    }
    fn close(&self) {}
}

#[test]
fn counts_are_an_object_and_can_be_read_back() {
    let counts = Counts {
        binaries: 3,
        phones: 5,
        in_grace: 1,
    };
    let json = r#"{"binaries":3,"phones":5,"in_grace":1}"#;
    assert_eq!(to_string(&counts).unwrap(), json);
    assert_eq!(from_str::<Counts>(json).unwrap(), counts);
}

#[test]
fn a_broadcast_is_an_object_and_can_be_read_back() {
    let broadcast = Broadcast {
        delivered: 2,
        failed: 1,
    };
    let json = r#"{"delivered":2,"failed":1}"#;
    assert_eq!(to_string(&broadcast).unwrap(), json);
    assert_eq!(from_str::<Broadcast>(json).unwrap(), broadcast);
}

#[test]
fn a_cause_is_a_word_and_can_be_read_back() {
    for (cause, json) in [
        (Cause::Reclaimed, r#""reclaimed""#),
        (Cause::TakenOver, r#""taken_over""#),
        (Cause::Expired, r#""expired""#),
        (Cause::Released, r#""released""#),
        (Cause::Evicted, r#""evicted""#),
        (Cause::Drained, r#""drained""#),
    ] {
        assert_eq!(to_string(&cause).unwrap(), json);
        assert_eq!(from_str::<Cause>(json).unwrap(), cause);
    }
    assert!(from_str::<Cause>(r#""bored""#).is_err());
}

#[test]
fn an_epoch_is_its_number() {
    let registry = Registry::new();
    let claim = registry.claim_server("s", Wire.into()).unwrap();
    let epoch = claim.epoch();
    assert_eq!(to_string(&epoch).unwrap(), epoch.get().to_string());
}

#[test]
fn a_status_without_a_deadline_is_a_word() {
    assert_eq!(to_string(&Status::Vacant).unwrap(), r#""vacant""#);
    assert_eq!(to_string(&Status::Held).unwrap(), r#""held""#);
}

#[test]
fn a_grace_shows_the_seconds_that_are_left() {
    let passed = Status::Grace {
        deadline: Instant::now(),
    };
    let json = r#"{"grace":{"seconds_left":0.0}}"#;
    assert_eq!(to_string(&passed).unwrap(), json);

    let running = Status::Grace {
        deadline: Instant::now() + Duration::from_secs(1_000_000),
    };
    let json = serde_json::to_value(running).unwrap();
    let left = json["grace"]["seconds_left"].as_f64().unwrap();
    assert!(left > 900_000.0 && left <= 1_000_000.0, "{left}");
}

#[test]
fn a_grace_that_never_ends_is_still_a_number() {
    let registry = Registry::new();
    let claim = registry.claim_server("s", Wire.into()).unwrap();
    claim.release_after(Duration::MAX);
    let status = registry.server("s").unwrap().status();
    let json = serde_json::to_value(status).unwrap();
    assert!(json["grace"]["seconds_left"].as_f64().unwrap() > 1e9);
}
