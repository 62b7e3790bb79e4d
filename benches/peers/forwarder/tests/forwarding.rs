//! Runs the program between a client and a server in this process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longer than the test ever needs.
const LIMIT: Duration = Duration::from_secs(20);

/// The running program, killed when dropped.
struct Forwarder(Child);

impl Drop for Forwarder {
    fn drop(&mut self) {
        // It may already have exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program and returns the address on which it listens.
fn start(to: SocketAddr) -> (Forwarder, SocketAddr) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_switchboard-forwarder"));
    program.args(["--listen", "127.0.0.1:0", "--to", &to.to_string()]);
    let mut program = Forwarder(
        program
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts"),
    );
    let log = program.0.stderr.take().expect("stderr is piped");
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
        scope.spawn(|| from.write_all(&bytes).expect("the connection is open"));
        to.read_exact(&mut came).expect("every byte arrives");
    });
    assert!(came == bytes);
}

#[test]
fn bytes_flow_both_ways_and_then_the_end_of_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (_forwarder, address) = start(listener.local_addr().expect("an address"));
    let near = TcpStream::connect(address).expect("it listens");
    let (mut far, _) = listener.accept().expect("the program connects");
    for stream in [&near, &far] {
        let limited = stream.set_read_timeout(Some(LIMIT));
        limited.expect("the limit is not zero");
    }
    carries(&near, &far);
    carries(&far, &near);
    drop(near);
    assert_eq!(far.read(&mut [0]).expect("the stream ends cleanly"), 0);
}
