//! The relay's envelopes: arbitrary bytes, from a phone and from a binary.
//!
//! The first line of an input is the conn-id of a phone, the rest what came over the wire.
//!
//! `cargo +nightly fuzz run envelope -- -max_total_time=60`
#![no_main]

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

/// By its path: with the relay would come a whole web server.
#[path = "../../relay/src/envelope.rs"]
#[allow(dead_code)]
mod envelope;

use envelope::{EnvelopeError, Wrapper, parse};

/// Another reading of the same bytes: all fields, each as it was written. Of a field that stands there twice the
/// last one, which `parse` refuses.
fn fields(message: &[u8]) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_slice(message).ok()
}

fn is_null(value: &&RawValue) -> bool {
    value.get() == "null"
}

fn from_a_phone(conn_id: &str, frame: &[u8]) {
    let wrapper = Wrapper::new(conn_id);
    let Ok(envelope) = wrapper.frame(frame) else {
        let valid = serde_json::from_slice::<serde_json::Value>(frame).is_ok();
        assert!(!valid, "a valid frame was refused");
        return;
    };
    let fields = fields(&envelope).expect("what is spliced is valid JSON");
    let names: Vec<_> = fields.keys().collect();
    assert_eq!(names, ["conn_id", "frame"], "a frame that says more");
    let named: String = serde_json::from_str(fields["conn_id"].get()).expect("a string");
    assert_eq!(named, conn_id, "in another phone's name");
    assert_eq!(fields["frame"].get().as_bytes(), trimmed(frame));

    // And back.
    match parse(&envelope) {
        Ok(directive) => {
            assert_eq!(directive.conn_id, conn_id);
            assert_eq!(directive.frame().expect("a frame"), trimmed(frame));
            assert_eq!(directive.close_code, None);
        }
        Err(EnvelopeError::NoConnId) => assert!(conn_id.is_empty()),
        Err(EnvelopeError::Empty) => assert!(is_null(&fields["frame"])),
        Err(error) => panic!("our own envelope: {error}"),
    }
}

/// JSON's white space, not Rust's.
fn trimmed(mut text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| b" \t\r\n".contains(byte);
    while let [first, rest @ ..] = text
        && is_space(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_space(last)
    {
        text = rest;
    }
    text
}

fn from_a_binary(message: &[u8]) {
    let Some(fields) = fields(message) else {
        let error = parse(&Bytes::copy_from_slice(message)).map(drop);
        assert_eq!(error, Err(EnvelopeError::Malformed));
        return;
    };
    compare(message, &fields);
    // The same fields, each only once, and nothing else.
    let known = ["conn_id", "frame", "close_code", "push_wake"];
    let known = known.iter().filter_map(|name| {
        let value = fields.get(*name)?;
        Some(format!("\"{name}\": {value}"))
    });
    let plain = format!("{{{}}}", known.collect::<Vec<_>>().join(", "));
    let was_understood = compare(plain.as_bytes(), &fields);
    assert!(was_understood || !is_well_typed(&fields), "{plain}");
}

fn conn_id(fields: &BTreeMap<String, &RawValue>) -> Option<String> {
    serde_json::from_str(fields.get("conn_id")?.get()).ok()
}

fn close_code(fields: &BTreeMap<String, &RawValue>) -> Option<u16> {
    fields.get("close_code")?.get().parse().ok()
}

fn is_well_typed(fields: &BTreeMap<String, &RawValue>) -> bool {
    let conn_id_is = conn_id(fields).is_some() || !fields.contains_key("conn_id");
    let code_is =
        close_code(fields).is_some() || fields.get("close_code").is_none_or(|raw| is_null(raw));
    conn_id_is && code_is
}

/// What a message asks for is what its fields say. Whether it was understood.
fn compare(message: &[u8], fields: &BTreeMap<String, &RawValue>) -> bool {
    let conn_id = conn_id(fields).unwrap_or_default();
    let frame = fields.get("frame").filter(|raw| !is_null(raw));
    let close_code = close_code(fields).unwrap_or(0);
    let message = Bytes::copy_from_slice(message);
    match parse(&message) {
        Ok(directive) => {
            assert_eq!(directive.conn_id, conn_id, "a wrong phone");
            let sent = directive.frame();
            assert_eq!(sent.as_deref(), frame.map(|raw| raw.get().as_bytes()));
            let code = directive.close_code.map_or(0, NonZeroU16::get);
            assert_eq!(code, close_code);
            assert!(!conn_id.is_empty() && (sent.is_some() || code > 0));
        }
        Err(error @ (EnvelopeError::NoConnId | EnvelopeError::PushWake)) => {
            assert_eq!(conn_id, "");
            let wakes = fields.get("push_wake").is_some_and(|raw| !is_null(raw));
            assert_eq!(error == EnvelopeError::PushWake, wakes);
        }
        Err(EnvelopeError::Empty) => assert!(frame.is_none() && close_code == 0),
        Err(EnvelopeError::Malformed) => return false,
    }
    true
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let conn_id = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let bytes = parts.next().unwrap_or_default();
    from_a_phone(&conn_id, bytes);
    from_a_binary(bytes);
    from_a_binary(input);
});
