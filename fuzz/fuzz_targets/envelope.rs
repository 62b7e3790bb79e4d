//! The relay's envelopes: arbitrary text from a phone and from a binary.
//!
//! The first line of an input is a phone's conn-id; the rest is a received message.
//!
//! `cargo +nightly fuzz run envelope -- -max_total_time=60`
#![no_main]

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

/// Included by path, because the relay crate would bring in a whole web server.
#[path = "../../relay/src/protocol/envelope.rs"]
#[allow(dead_code)]
mod envelope;

use envelope::{EnvelopeError, FrameError, Wrapper, parse, push_wake};

/// A second reading of the same bytes: all fields, each as it was written. Of a repeated field it keeps the
/// last occurrence; `parse` refuses repeats.
fn fields(message: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(message).ok()
}

fn is_null(value: &&RawValue) -> bool {
    value.get() == "null"
}

/// The nesting depth of arrays and objects, computed differently from the relay's.
fn depth(json: &serde_json::Value) -> usize {
    use serde_json::Value::{Array, Object};
    match json {
        Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Parses without a depth limit. The relay sets that limit.
fn value(frame: &str) -> Option<serde_json::Value> {
    let mut reader = serde_json::Deserializer::from_str(frame);
    reader.disable_recursion_limit();
    let value = serde::Deserialize::deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

fn from_a_phone(conn_id: &str, frame: &str) {
    let wrapper = Wrapper::new(conn_id);
    // An input is at most a few KiB long, so the nesting cannot exhaust the stack.
    let value = value(frame);
    let envelope = match wrapper.frame(frame) {
        Ok(envelope) => envelope,
        Err(FrameError::TooDeep) => {
            assert!(value.is_none_or(|value| depth(&value) > 128), "refused as too deep, but is not");
            return;
        }
        Err(FrameError::NotJson) => {
            assert!(value.is_none(), "a valid frame was refused");
            return;
        }
    };
    assert!(value.is_none_or(|value| depth(&value) <= 128), "accepted, but too deep");
    let fields = fields(&envelope).expect("a spliced envelope is valid JSON");
    let names: Vec<_> = fields.keys().collect();
    assert_eq!(names, ["conn_id", "frame"], "the envelope has other fields");
    let named: String = serde_json::from_str(fields["conn_id"].get()).expect("a string");
    assert_eq!(named, conn_id, "the envelope names another phone");
    assert_eq!(fields["frame"].get(), trimmed(frame));

    // Parse the envelope back.
    match parse(&envelope) {
        Ok(directive) => {
            assert_eq!(directive.conn_id, conn_id);
            assert_eq!(directive.frame().expect("a frame"), trimmed(frame));
            assert_eq!(directive.close_code, None);
        }
        Err(EnvelopeError::NoConnId) => assert!(conn_id.is_empty()),
        Err(EnvelopeError::Empty) => assert!(is_null(&fields["frame"])),
        Err(error) => panic!("the relay refused its own envelope: {error}"),
    }
}

/// Trims JSON's white space, which differs from Rust's.
fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

fn from_a_binary(message: &str) {
    let Some(fields) = fields(message) else {
        let error = parse(message).map(drop);
        assert_eq!(error, Err(EnvelopeError::Malformed));
        return;
    };
    compare(message, &fields);
    // The same known fields, each once, and nothing else.
    let known = ["conn_id", "frame", "close_code", "push_wake"];
    let known = known.iter().filter_map(|name| {
        let value = fields.get(*name)?;
        Some(format!("\"{name}\": {value}"))
    });
    let plain = format!("{{{}}}", known.collect::<Vec<_>>().join(", "));
    let was_understood = compare(&plain, &fields);
    assert!(was_understood || !is_well_typed(&fields), "{plain}");
}

fn conn_id(fields: &BTreeMap<String, &RawValue>) -> Option<String> {
    serde_json::from_str(fields.get("conn_id")?.get()).ok()
}

fn close_code(fields: &BTreeMap<String, &RawValue>) -> Option<u16> {
    fields.get("close_code")?.get().parse().ok()
}

fn is_well_typed(fields: &BTreeMap<String, &RawValue>) -> bool {
    let conn_id_is = conn_id(fields).is_some() || fields.get("conn_id").is_none_or(|raw| is_null(raw));
    let code_is =
        close_code(fields).is_some() || fields.get("close_code").is_none_or(|raw| is_null(raw));
    conn_id_is && code_is
}

/// Asserts that a message's directive matches its fields. Returns whether the message was understood.
fn compare(message: &str, fields: &BTreeMap<String, &RawValue>) -> bool {
    let conn_id = conn_id(fields).unwrap_or_default();
    let frame = fields.get("frame").filter(|raw| !is_null(raw));
    let close_code = close_code(fields).unwrap_or(0);
    match parse(message) {
        Ok(directive) => {
            assert_eq!(directive.conn_id, conn_id, "the directive names another phone");
            let sent = directive.frame();
            assert_eq!(sent.as_deref(), frame.map(|raw| raw.get()));
            let code = directive.close_code.map_or(0, NonZeroU16::get);
            assert_eq!(code, close_code);
            assert!(!conn_id.is_empty() && (sent.is_some() || code > 0));
        }
        Err(error @ (EnvelopeError::NoConnId | EnvelopeError::PushWake)) => {
            assert_eq!(conn_id, "");
            let wakes = fields.get("push_wake").is_some_and(|raw| !is_null(raw));
            assert_eq!(error == EnvelopeError::PushWake, wakes);
            if wakes {
                compare_wake(message, fields["push_wake"].get());
            }
        }
        Err(EnvelopeError::Empty) => assert!(frame.is_none() && close_code == 0),
        Err(EnvelopeError::Malformed) => return false,
    }
    true
}

/// Asserts that a request to wake a phone has the platform and the token that were written. A repeated field is refused.
fn compare_wake(message: &str, written: &str) {
    let Ok(wake) = push_wake(message) else {
        return;
    };
    let written = fields(written).expect("an object");
    for (name, read) in [("platform", &wake.platform), ("token", &wake.token)] {
        let text: String = serde_json::from_str(written[name].get()).expect("a string");
        assert_eq!(**read, *text);
        assert!(!text.is_empty());
    }
}

fuzz_target!(|input: &[u8]| {
    // The relay closes a connection that sends invalid UTF-8.
    let Ok(input) = str::from_utf8(input) else {
        return;
    };
    let (conn_id, message) = input.split_once('\n').unwrap_or((input, ""));
    from_a_phone(conn_id, message);
    from_a_binary(message);
    from_a_binary(input);
});
