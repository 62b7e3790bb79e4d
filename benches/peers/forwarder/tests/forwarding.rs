//! The program between a client and a server in this process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// More than the test needs.
const LIMIT: Duration = Duration::from_secs(20);

/// Killed at the end of the test.
struct Forwarder(Child);

impl Drop for Forwarder {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program, and where it listens.
fn start(to: SocketAddr) -> (Forwarder, SocketAddr) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_switchboard-forwarder"));
    program.args(["--listen", "127.0.0.1:0", "--to", &to.to_string()]);
    let mut program = Forwarder(program.stderr(Stdio::piped()).spawn().expect("it starts"));
    let log = program.0.stderr.take().expect("it is piped");
    let mut line = String::new();
    let read = BufReader::new(log).read_line(&mut line);
    read.expect("UTF-8");
    let address = line.strip_prefix("listening address=");
    let address = address.and_then(|rest| rest.trim_end().strip_suffix(" tls=false"));
    let address = address.expect(&line).parse();
    (program, address.expect("an address"))
}

fn carries(mut from: &TcpStream, mut to: &TcpStream) {
    let bytes: Vec<_> = (0..=u8::MAX).cycle().take(100_000).collect();
    let mut came = vec![0; bytes.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| from.write_all(&bytes).expect("it is connected"));
        to.read_exact(&mut came).expect("all of them come");
    });
    assert!(came == bytes);
}

#[test]
fn bytes_go_both_ways_and_the_end_follows_them() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (_forwarder, address) = start(listener.local_addr().expect("an address"));
    let near = TcpStream::connect(address).expect("it listens");
    let (mut far, _) = listener.accept().expect("it connects");
    for stream in [&near, &far] {
        let limited = stream.set_read_timeout(Some(LIMIT));
        limited.expect("it is not zero");
    }
    carries(&near, &far);
    carries(&far, &near);
    drop(near);
    assert_eq!(far.read(&mut [0]).expect("an end in good order"), 0);
}
