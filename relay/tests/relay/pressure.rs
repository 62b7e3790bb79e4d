use crate::common::{Relay, json_of, to, within};

/// Far more than the buffers of two sockets hold.
const FRAMES: usize = 400;
const FRAME: usize = 128 * 1024;

#[tokio::test]
async fn a_phone_that_never_reads_is_closed_and_its_sibling_goes_on() {
    within(async {
        let relay = Relay::with(&["--outbox", "1048576"]).await;
        let mut binary = relay.binary("a").await;
        let (mut slow, slow_id) = relay.phone("a", &mut binary).await;
        let (mut sibling, sibling_id) = relay.phone("a", &mut binary).await;
        let frame = json_of(FRAME);
        let mut notice = None;
        let mut sent = 0;
        for number in 0..FRAMES {
            sent += 1;
            binary.send(&to(&slow_id, &frame)).await;
            binary.send(&to(&sibling_id, &number.to_string())).await;
            assert_eq!(sibling.frame().await, number.to_string());
            notice = binary.frame_now();
            if notice.is_some() {
                break;
            }
        }
        let expected = format!(r#"{{"conn_id":{slow_id:?},"close_code":1001}}"#);
        assert_eq!(notice.expect("its backlog is full by now"), expected);
        let (received, closed) = slow.closed_at_last().await;
        assert_eq!(closed, (1011, "phone backlog full".into()));
        assert!(
            received + 5 < sent,
            "what is in the backlog is not delivered"
        );
        binary.send(&to(&sibling_id, "\"still here\"")).await;
        assert_eq!(sibling.frame().await, "\"still here\"");
    })
    .await;
}

#[tokio::test]
async fn a_write_that_takes_too_long_ends_the_phone() {
    within(async {
        let flags = ["--write-timeout", "100ms", "--outbox", "268435456"];
        let relay = Relay::with(&flags).await;
        let mut binary = relay.binary("a").await;
        let (slow, slow_id) = relay.phone("a", &mut binary).await;
        let frame = json_of(FRAME);
        for _ in 0..FRAMES {
            binary.send(&to(&slow_id, &frame)).await;
        }
        let expected = format!(r#"{{"conn_id":{slow_id:?},"close_code":1001}}"#);
        assert_eq!(binary.frame().await, expected);
        slow.gone().await;
    })
    .await;
}

#[tokio::test]
async fn a_slow_binary_slows_its_phones_down_and_nobody_else_and_loses_nothing() {
    within(async {
        let relay = Relay::with(&["--outbox", "1048576"]).await;
        let mut slow = relay.binary("slow").await;
        let (mut phone, conn_id) = relay.phone("slow", &mut slow).await;
        let mut binary = relay.binary("quick").await;
        let (mut other, _) = relay.phone("quick", &mut binary).await;

        let sending = tokio::spawn(async move {
            for number in 0..FRAMES {
                let frame = format!(r"[{number},{}]", json_of(FRAME));
                phone.send(&frame).await;
            }
            phone
        });
        for number in 0..1000 {
            other.send(&number.to_string()).await;
            assert_eq!(binary.envelope().await["frame"], number);
        }
        assert!(!sending.is_finished(), "its frames fit into no buffer");
        for number in 0..FRAMES {
            let envelope = slow.envelope().await;
            assert_eq!(envelope["conn_id"], conn_id);
            assert_eq!(envelope["frame"][0], number);
        }
        sending.await.expect("all was sent");
    })
    .await;
}

#[tokio::test]
async fn a_binary_that_never_reads_is_closed_and_so_are_phones_whose_frames_are_lost() {
    within(async {
        let flags = ["--write-timeout", "100ms", "--outbox", "1048576"];
        let relay = Relay::with(&flags).await;
        let mut stuck = relay.binary("a").await;
        let (mut talks, _) = relay.phone("a", &mut stuck).await;
        let (mut waits, _) = relay.phone("a", &mut stuck).await;
        // Blocks midway, until the relay has given up the binary and drops what it reads.
        for _ in 0..FRAMES {
            talks.send(&json_of(FRAME)).await;
        }
        assert_eq!(talks.closed().await, (1000, String::new()));
        relay
            .until(|health| health.binaries == 0 && health.phones == 1)
            .await;
        let undelivered = r#"switchboard_frames_undelivered_total{direction="to_binary"}"#;
        assert!(relay.metric(undelivered).await > 0);
        let _binary = relay.binary("a").await;
        let reclaimed = (4404, "binary reclaimed server-id".into());
        assert_eq!(waits.closed().await, reclaimed);
        stuck.gone().await;
    })
    .await;
}
