use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::common::{Client, Relay, json_of, to, within};

#[tokio::test]
async fn two_server_ids_with_several_phones_get_only_their_own_frames() {
    within(async {
        let relay = Relay::start().await;
        let mut teams = Vec::new();
        for server_id in ["a", "b"] {
            let mut binary = relay.binary(server_id).await;
            let mut phones = Vec::new();
            for _ in 0..4 {
                phones.push(relay.phone(server_id, &mut binary).await);
            }
            teams.push((server_id, binary, phones));
        }
        for round in 0..3 {
            for (server_id, binary, phones) in &mut teams {
                for (phone, conn_id) in phones.iter_mut() {
                    let frame = format!(r#"{{"from":{conn_id:?},"round":{round}}}"#);
                    phone.send(&frame).await;
                    assert_eq!(binary.frame().await, to(conn_id, &frame));
                }
                for (_, conn_id) in phones.iter() {
                    let frame = format!(r#"["{server_id}",{conn_id:?},{round}]"#);
                    binary.send(&to(conn_id, &frame)).await;
                }
                for (phone, conn_id) in phones.iter_mut() {
                    let frame = format!(r#"["{server_id}",{conn_id:?},{round}]"#);
                    assert_eq!(phone.frame().await, frame);
                }
            }
        }
        // A binary cannot reach the phones of another binary.
        let (_, stranger) = &teams[1].2[0];
        let envelope = to(stranger, "\"from a\"");
        teams[0].1.send(&envelope).await;
        let (_, own) = &teams[0].2[0];
        let envelope = to(own, "\"after\"");
        teams[0].1.send(&envelope).await;
        assert_eq!(teams[0].2[0].0.frame().await, "\"after\"");
        for (_, binary, phones) in &mut teams {
            assert_eq!(binary.frame_now(), None);
            for (phone, _) in phones {
                assert_eq!(phone.frame_now(), None);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn text_and_binary_messages_pass_byte_for_byte() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        let frame = " {\"a\" : [1.50, \"\\u00e9é\"] }\n";
        let inner = frame.trim();
        for wrap in [
            |text: String| Message::text(text),
            |text: String| Message::binary(text),
        ] {
            phone.message(wrap(frame.into())).await;
            assert_eq!(binary.frame().await, to(&conn_id, frame));
            binary.message(wrap(to(&conn_id, frame))).await;
            assert_eq!(phone.frame().await, inner);
        }
    })
    .await;
}

#[tokio::test]
async fn a_binary_whose_message_is_not_utf8_is_closed_with_1007() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        binary
            .message(Message::binary(b"{\"\xff\":1}".as_slice()))
            .await;
        assert_eq!(binary.closed().await, (1007, String::new()));
        let rejected = r#"switchboard_messages_rejected_total{reason="not_utf8"}"#;
        assert_eq!(relay.metric(rejected).await, 1);
    })
    .await;
}

#[tokio::test]
async fn many_frames_arrive_in_order_both_ways() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        for number in 0..1000 {
            phone.send(&number.to_string()).await;
            binary.send(&to(&conn_id, &number.to_string())).await;
        }
        for number in 0..1000 {
            assert_eq!(binary.frame().await, to(&conn_id, &number.to_string()));
            assert_eq!(phone.frame().await, number.to_string());
        }
    })
    .await;
}

#[tokio::test]
async fn a_frame_that_is_not_json_closes_its_phone_and_no_other() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut sibling, sibling_id) = relay.phone("a", &mut binary).await;
        let deep = "[".repeat(129) + &"]".repeat(129);
        for bad in [
            b"".as_slice(),
            b"{",
            b"1},{\"conn_id\":\"x\"",
            b"no",
            deep.as_bytes(),
            b"\"\xff\"",
        ] {
            let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
            phone.message(Message::binary(bad.to_vec())).await;
            let code = if bad.is_ascii() { 1000 } else { 1007 };
            assert_eq!(phone.closed().await, (code, String::new()));
            let notice = format!(r#"{{"conn_id":{conn_id:?},"close_code":1001}}"#);
            assert_eq!(binary.frame().await, notice);
        }
        sibling.send("1").await;
        assert_eq!(binary.frame().await, to(&sibling_id, "1"));
    })
    .await;
}

#[tokio::test]
async fn a_malformed_envelope_is_dropped_and_its_binary_stays() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        for bad in [
            "",
            "{",
            "[]",
            "null",
            r#"{"push_wake":{"device":"d"}}"#,
            r#"{"conn_id":"client-a-nobody","frame":1}"#,
            &format!(r#"{{"conn_id":{conn_id:?}}}"#),
            &format!(r#"{{"conn_id":{conn_id:?},"frame":nothing}}"#),
            &format!(r#"{{"conn_id":{conn_id:?},"close_code":70000}}"#),
            &format!(r"[{conn_id:?},1]"),
        ] {
            binary.send(bad).await;
        }
        let envelope = format!(r#"{{"id":[7],"frame":{{"b": 2}},"conn_id":{conn_id:?}}}"#);
        binary.send(&envelope).await;
        assert_eq!(phone.frame().await, r#"{"b": 2}"#);
    })
    .await;
}

#[tokio::test]
async fn the_largest_message_passes_and_a_larger_one_closes_with_1009() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut sibling, sibling_id) = relay.phone("a", &mut binary).await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        let largest = json_of(256 * 1024);
        phone.send(&largest).await;
        assert_eq!(binary.frame().await, to(&conn_id, &largest));
        phone.send(&json_of(256 * 1024 + 1)).await;
        assert_eq!(phone.closed().await, (1009, "message too big".into()));
        assert_eq!(binary.envelope().await["close_code"], 1001);
        sibling.send("1").await;
        assert_eq!(binary.frame().await, to(&sibling_id, "1"));

        binary.send(&json_of(300 * 1024)).await;
        assert_eq!(binary.closed().await, (1009, "message too big".into()));
    })
    .await;
}

#[tokio::test]
async fn a_phone_far_over_the_limit_still_learns_why_it_is_closed() {
    within(async {
        let relay = Relay::with(&["--max-frame", "1024"]).await;
        let _binary = relay.binary("a").await;
        let mut phone = Client::phone(relay.address, "a").await;
        phone.send(&json_of(64 * 1024)).await;
        assert_eq!(phone.closed().await, (1009, "message too big".into()));
    })
    .await;
}

#[tokio::test]
async fn a_protocol_violation_is_closed_with_the_code_for_it() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        for (kind, code) in [(Data::Text, 1007), (Data::Reserved(3), 1002)] {
            let (mut phone, _) = relay.phone("a", &mut binary).await;
            let frame = Frame::message(b"\"\xff\"".as_slice(), OpCode::Data(kind), true);
            phone.message(Message::Frame(frame)).await;
            assert_eq!(phone.closed().await, (code, String::new()));
            assert_eq!(binary.envelope().await["close_code"], 1001);
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_in_fragments_is_measured_as_a_whole() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        let fragments = |each: usize| {
            let half = "1".repeat(each);
            [(Data::Text, false), (Data::Continue, true)]
                .map(|(kind, last)| Frame::message(half.clone(), OpCode::Data(kind), last))
        };
        for frame in fragments(128 * 1024) {
            phone.message(Message::Frame(frame)).await;
        }
        let whole = "1".repeat(256 * 1024);
        assert_eq!(binary.frame().await, to(&conn_id, &whole));
        for frame in fragments(128 * 1024 + 1) {
            phone.message(Message::Frame(frame)).await;
        }
        assert_eq!(phone.closed().await, (1009, "message too big".into()));
    })
    .await;
}
