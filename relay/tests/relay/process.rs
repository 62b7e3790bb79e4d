use std::net::{SocketAddr, TcpListener};
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use clap::CommandFactory;
use switchboard_relay::Config;

use crate::common::{Client, http, within};

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_switchboard-relay"));
    program.kill_on_drop(true).stderr(Stdio::piped());
    program
}

async fn output(args: &[&str]) -> Output {
    program().args(args).output().await.expect("it runs")
}

fn assert_one_line(output: &Output, code: i32, sentence: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr, format!("error: {sentence}\n"));
}

/// Starts the program. Returns it, its log after the line `listening`, and its address.
async fn start(args: &[&str]) -> (Child, Lines<BufReader<ChildStderr>>, SocketAddr) {
    let mut relay = program()
        .args(["--listen", "127.0.0.1:0", "--metrics-listen", "off"])
        .args(args)
        .spawn()
        .expect("it starts");
    let stderr = relay.stderr.take().expect("it is piped");
    let mut lines = BufReader::new(stderr).lines();
    loop {
        let line = lines.next_line().await.expect("UTF-8");
        let line = line.expect("it logs that it listens");
        if let Some((_, rest)) = line.split_once("listening address=") {
            let address = rest.split(' ').next().unwrap_or_default();
            return (relay, lines, address.parse().expect("an address"));
        }
    }
}

async fn signal(relay: &Child, name: &str) {
    let id = relay.id().expect("it runs").to_string();
    let kill = Command::new("kill").args([name, &id]).status().await;
    assert!(kill.expect("there is a kill").success());
}

#[tokio::test]
async fn a_port_in_use_is_reported_in_one_line() {
    within(async {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("it is bound").to_string();
        let sentence = format!(
            "cannot listen on {address}: address already in use; stop the other program or choose another --listen"
        );
        assert_one_line(&output(&["--listen", &address]).await, 1, &sentence);
    })
    .await;
}

#[tokio::test]
async fn an_invalid_flag_is_named_in_one_line() {
    within(async {
        for (args, sentence) in [
            (
                ["--grace", "soon"],
                "invalid value 'soon' for '--grace <D>': expected number at 0",
            ),
            (
                ["--listen", "x"],
                "invalid value 'x' for '--listen <ADDR>': expected an address with a port, like 127.0.0.1:8080, localhost:8080 or :8080",
            ),
            (
                ["--max-phones", "0"],
                "invalid value '0' for '--max-phones <N>': 0 is not in 1..=4294967295",
            ),
            (["--colour", "red"], "unexpected argument '--colour' found"),
        ] {
            assert_one_line(&output(&args).await, 2, sentence);
        }
        let from_environment = program().env("SWITCHBOARD_OUTBOX", "much").output().await;
        let sentence = "SWITCHBOARD_OUTBOX: invalid value 'much' for '--outbox <BYTES>': invalid digit found in string";
        assert_one_line(&from_environment.expect("it runs"), 2, sentence);
    })
    .await;
}

#[tokio::test]
async fn help_and_version_are_not_errors() {
    within(async {
        let help = output(&["--help"]).await;
        assert!(help.status.success());
        let text = String::from_utf8(help.stdout).expect("UTF-8");
        for flag in [
            "--listen",
            "--shutdown-timeout",
            "SWITCHBOARD_WRITE_TIMEOUT",
        ] {
            assert!(text.contains(flag), "{text}");
        }
        let version = output(&["--version"]).await;
        assert!(version.status.success());
        let expected = format!("switchboard-relay {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(String::from_utf8_lossy(&version.stdout), expected);
    })
    .await;
}

#[tokio::test]
async fn the_manual_page_and_completions_are_printed() {
    within(async {
        for (kind, begin) in [
            ("man", ".ie"),
            ("complete-bash", "_switchboard__relay()"),
            ("complete-fish", "complete -c switchboard-relay"),
            ("complete-zsh", "#compdef switchboard-relay"),
        ] {
            let printed = output(&["--generate", kind]).await;
            assert!(printed.status.success());
            let text = String::from_utf8(printed.stdout).expect("UTF-8");
            assert!(text.starts_with(begin), "{kind}: {text}");
        }
        assert_eq!(output(&["--generate", "csh"]).await.status.code(), Some(2));
    })
    .await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_closes_everybody_and_ends_the_program_well() {
    within(async {
        for name in ["-TERM", "-INT"] {
            let (mut relay, _lines, address) = start(&[]).await;
            let mut binary = Client::binary(address, "a").await;
            wait_for_binary(address).await;
            let mut phone = Client::phone(address, "a").await;
            phone.send("1").await;
            assert_eq!(binary.envelope().await["frame"], 1);
            signal(&relay, name).await;
            let shutting_down = (1001, "shutting down".to_owned());
            let (one, two) = tokio::join!(binary.closed(), phone.closed());
            assert_eq!([&one, &two], [&shutting_down; 2]);
            let status = relay.wait().await.expect("it ends");
            assert_eq!(status.code(), Some(0));
        }
    })
    .await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_log_without_a_reader_breaks_no_connection() {
    within(async {
        let (mut relay, lines, address) = start(&[]).await;
        drop(lines);
        let mut binary = Client::binary(address, "a").await;
        wait_for_binary(address).await;
        let mut phone = Client::phone(address, "a").await;
        phone.send("1").await;
        assert_eq!(binary.envelope().await["frame"], 1);
        signal(&relay, "-TERM").await;
        assert_eq!(phone.closed().await, (1001, "shutting down".into()));
        let status = relay.wait().await.expect("it ends");
        assert_eq!(status.code(), Some(0));
    })
    .await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_full_log_without_a_reader_blocks_nothing() {
    within(async {
        let flags = [
            "--log",
            "trace",
            "--rate-burst",
            "0",
            "--metrics-listen",
            "127.0.0.1:0",
        ];
        let (mut relay, lines, address) = start(&flags).await;
        for _ in 0..300 {
            http(address, "POST /v1/client HTTP/1.1", b"").await;
        }
        let mut binary = Client::binary(address, "a").await;
        let mut phone = Client::phone(address, "a").await;
        // Each is logged: more lines than the pipe and the queue of the log hold.
        for _ in 0..20_000 {
            binary.send("no envelope").await;
        }
        phone.send("1").await;
        assert_eq!(binary.envelope().await["frame"], 1);
        signal(&relay, "-TERM").await;
        assert_eq!(phone.closed().await, (1001, "shutting down".into()));
        let status = relay.wait().await.expect("it ends");
        assert_eq!(status.code(), Some(0));
        drop(lines);
    })
    .await;
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset() {
    within(async {
        let mut program = program();
        for flag in Config::command().get_arguments() {
            if let Some(variable) = flag.get_env() {
                program.env(variable, "");
            }
        }
        // The address belongs to another machine.
        let output = program.args(["--listen", "192.0.2.1:1"]).output().await;
        let sentence =
            "cannot listen on 192.0.2.1:1: this machine does not have that address; choose another --listen";
        assert_one_line(&output.expect("it runs"), 1, sentence);
    })
    .await;
}

#[cfg(unix)]
#[tokio::test]
async fn neither_token_nor_frames_are_logged_at_any_level() {
    within(async {
        let (relay, mut lines, address) = start(&["--log", "trace"]).await;
        let mut binary = Client::binary(address, "line\tbreak").await;
        wait_for_binary(address).await;
        let mut phone = Client::phone(address, "line\tbreak").await;
        phone.send(r#""secret frame""#).await;
        let conn_id = binary.envelope().await["conn_id"].to_string();
        for envelope in [
            format!(r#"{{"conn_id":{conn_id},"frame":"secret frame"}}"#),
            r#"{"conn_id":"secret frame","frame":1}"#.to_owned(),
            "secret frame".to_owned(),
        ] {
            binary.send(&envelope).await;
        }
        phone.frame().await;
        phone.send("secret frame").await;
        phone.closed().await;
        signal(&relay, "-TERM").await;
        let mut log = String::new();
        while let Some(line) = lines.next_line().await.expect("UTF-8") {
            log.push_str(&line);
        }
        assert!(log.contains("shutting down"), "{log}");
        assert!(log.contains(r"line\tbreak"), "{log}");
        assert!(!log.contains("secret"), "{log}");
        assert!(!log.contains('\t'), "{log}");
    })
    .await;
}

async fn wait_for_binary(address: SocketAddr) {
    loop {
        let health = http(address, "GET /healthz HTTP/1.1", b"").await;
        if health.body().contains(r#""connected_binaries":1"#) {
            return;
        }
    }
}
