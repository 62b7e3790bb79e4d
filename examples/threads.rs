//! A broker with threads and TCP, without an async runtime.
//!
//! ```text
//! cargo run --example threads                               shows a conversation between clients of its own
//! cargo run --example threads -- --listen 127.0.0.1:8080    serves until a line comes from the terminal
//! ```
//!
//! The first line of a connection is `binary ID` or `phone ID NAME`. The broker answers `ok`. What a phone
//! says goes to its binary, which receives `NAME TEXT`. The binary says `NAME TEXT`, and that phone receives
//! the text.
//!
//! It leaves out what has nothing to do with the registry: authentication, and limits on lines and addresses.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchboard::{Cause, Claim, Conn, Displaced, Membership, RegisterError, Registry, SendError};

/// How many frames may wait for a peer.
const OUTBOX: usize = 64;
/// How long a peer may take to say who it is, and to receive a line.
const SLOW: Duration = Duration::from_secs(5);
/// How long a phone may wait for its binary.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the expiry thread looks whether the broker stops.
const TICK: Duration = Duration::from_millis(100);

/// A connection as the registry sees it: a bounded queue. A thread of its own writes the queue to the socket.
struct Outbox {
    conn_id: String,
    /// `None` once the connection is closed. The lock is held for an attempt to send, which never waits.
    frames: Mutex<Option<SyncSender<Bytes>>>,
}

impl Outbox {
    fn open(conn_id: &str, stream: &TcpStream) -> io::Result<Arc<Self>> {
        let (sender, frames) = mpsc::sync_channel::<Bytes>(OUTBOX);
        let mut stream = stream.try_clone()?;
        thread::Builder::new().spawn(move || {
            // This ends when the outbox is closed, or when the peer does not read for too long.
            for frame in frames {
                if stream.write_all(&[&*frame, b"\n"].concat()).is_err() {
                    break;
                }
            }
            // Wakes the thread that reads from this connection.
            let _ = stream.shutdown(Shutdown::Both);
        })?;
        Ok(Arc::new(Self {
            conn_id: conn_id.to_owned(),
            frames: Mutex::new(Some(sender)),
        }))
    }

    /// Lets the peer have the frames that are queued, and why there won't be more.
    fn close_because(&self, reason: &str) {
        // If the queue is full, the peer does not learn the reason.
        let _ = self.send(format!("closed: {reason}").into());
        self.close();
    }
}

impl Conn for Outbox {
    fn conn_id(&self) -> &str {
        &self.conn_id
    }

    fn send(&self, frame: Bytes) -> Result<(), SendError> {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let frames = frames.as_ref().ok_or(SendError::Closed)?;
        frames.try_send(frame).map_err(|error| match error {
            TrySendError::Full(_) => SendError::Full,
            TrySendError::Disconnected(_) => SendError::Closed,
        })
    }

    fn close(&self) {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        *frames = None;
    }
}

/// Closes connections that the registry has removed. The registry itself closes none.
fn close_displaced(out: &Displaced<Outbox>) {
    let reason = match out.cause {
        Cause::Reclaimed => "the binary is back",
        Cause::Expired => "the binary did not come back",
        _ => "the broker stops",
    };
    for conn in out {
        conn.close_because(reason);
    }
}

struct Broker {
    registry: Registry<Outbox>,
    address: SocketAddr,
    stopping: AtomicBool,
}

impl Broker {
    fn new(address: SocketAddr, grace: Duration) -> Self {
        Self {
            registry: Registry::builder().max_phones(16).grace(grace).build(),
            address,
            stopping: AtomicBool::new(false),
        }
    }

    fn stop(&self) {
        self.stopping.store(true, SeqCst);
        // Wakes the thread that accepts connections.
        let _ = TcpStream::connect(self.address);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    /// Serves until `stop` is called, or until the expiry thread ends.
    fn serve(self: &Arc<Self>, listener: &TcpListener) -> Result<(), Box<dyn Error + Send + Sync>> {
        let expiry = thread::Builder::new().spawn({
            let broker = Arc::clone(self);
            move || {
                // A broker that ends no graces keeps phones without a binary for ever. So it must not go on
                // without this thread, even if it panics.
                let _stop = StopOnDrop(&broker);
                broker.expire_graces();
            }
        })?;
        let mut connections = Vec::new();
        for stream in listener.incoming() {
            if self.is_stopping() {
                break;
            }
            let broker = Arc::clone(self);
            let connection = stream.and_then(|stream| {
                thread::Builder::new().spawn(move || {
                    if let Err(error) = broker.connection(&stream) {
                        let _ = writeln!(&stream, "closed: {error}");
                    }
                })
            });
            match connection {
                Ok(connection) => connections.push(connection),
                Err(error) => {
                    eprintln!("a connection was lost: {error}");
                    // Out of files or threads: some may become free.
                    thread::sleep(TICK);
                }
            }
            connections.retain(|connection| !connection.is_finished());
        }
        // Nobody accepts connections any more. The drain closes those that are open.
        self.registry.drain().iter().for_each(close_displaced);
        for connection in connections {
            // The panic of a connection concerns no other one.
            let _ = connection.join();
        }
        expiry
            .join()
            .map_err(|_| "the expiry thread panicked".into())
    }

    /// Ends each grace at its deadline, and closes the connections of the server-id.
    fn expire_graces(&self) {
        while !self.is_stopping() {
            let next = self.registry.next_deadline();
            let tick = Instant::now() + TICK;
            let until = next.map_or(tick, |next| next.min(tick));
            // Any grace counts, whoever began it: perhaps the drop of a claim while its thread panicked.
            let _ = self.registry.earlier_deadline(next).block_until(until);
            let expired = self.registry.expire(Instant::now());
            expired.iter().for_each(close_displaced);
        }
    }

    fn connection(&self, stream: &TcpStream) -> Result<(), Box<dyn Error>> {
        stream.set_write_timeout(Some(SLOW))?;
        stream.set_read_timeout(Some(SLOW))?;
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next().ok_or("no first line")??;
        stream.set_read_timeout(None)?;
        let said = lines.map_while(Result::ok);
        match first.split(' ').collect::<Vec<_>>()[..] {
            ["binary", server_id] => self.binary(server_id, stream, said)?,
            ["phone", server_id, name] => self.phone(server_id, name, stream, said)?,
            _ => return Err("the first line is `binary ID` or `phone ID NAME`".into()),
        }
        Ok(())
    }

    fn binary(
        &self,
        server_id: &str,
        stream: &TcpStream,
        said: impl Iterator<Item = String>,
    ) -> io::Result<()> {
        let outbox = Outbox::open("binary", stream)?;
        match self.registry.claim_server(server_id, outbox) {
            Ok(claim) => {
                claim.displaced().into_iter().for_each(close_displaced);
                self.converse(claim.conn(), said, |line| from_binary(&claim, line));
                // The claim is dropped here, or where the thread panics: the grace begins.
            }
            Err(conflict) => conflict.conn().close_because(&conflict.to_string()),
        }
        Ok(())
    }

    fn phone(
        &self,
        server_id: &str,
        name: &str,
        stream: &TcpStream,
        said: impl Iterator<Item = String>,
    ) -> io::Result<()> {
        let outbox = Outbox::open(name, stream)?;
        match self.register(server_id, outbox) {
            Ok(membership) => {
                let receive = |line: &str| from_phone(&membership, line);
                self.converse(membership.conn(), said, receive);
                // The membership is dropped here: the phone is unregistered.
            }
            Err(refused) => {
                let reason = refused.to_string();
                refused.into_conn().close_because(&reason);
            }
        }
        Ok(())
    }

    /// Registers a phone. If it came before its binary, it waits for the binary.
    fn register(
        &self,
        server_id: &str,
        mut outbox: Arc<Outbox>,
    ) -> Result<Membership<Outbox>, RegisterError<Outbox>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.registry.register_phone(server_id, outbox) {
                // A refusal returns the connection.
                Err(RegisterError::NoServer(refused)) => outbox = refused,
                settled => return settled,
            }
            let binary = self.registry.wait_for_binary(server_id);
            if binary.block_until(deadline).is_none() {
                return Err(RegisterError::NoServer(outbox));
            }
            // The binary may be gone again by now, so this is a loop.
        }
    }

    /// Passes on what the peer says until the connection ends.
    fn converse(
        &self,
        outbox: &Outbox,
        said: impl Iterator<Item = String>,
        receive: impl Fn(&str),
    ) {
        // The drain may have missed a connection that was registered while it ran.
        if self.is_stopping() {
            return outbox.close_because("the broker stops");
        }
        if outbox.send("ok".into()).is_ok() {
            said.for_each(|line| receive(&line));
        }
        // The registry may keep the outbox for a grace. It refuses frames from now on.
        outbox.close();
    }
}

struct StopOnDrop<'a>(&'a Broker);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// `NAME TEXT` goes to the phone with that name. No lookup by server-id: the claim knows its phones.
fn from_binary(claim: &Claim<Outbox>, line: &str) {
    let Some((name, text)) = line.split_once(' ') else {
        return;
    };
    let delivered = claim
        .phone(name)
        .is_some_and(|phone| forward(&phone, text.to_owned()));
    if !delivered {
        forward(claim.conn(), format!("{name} is not there"));
    }
}

/// Text goes to the binary. In grace, that is the binary that went away, and its outbox refuses the frame.
fn from_phone(membership: &Membership<Outbox>, text: &str) {
    let frame = format!("{} {text}", membership.conn_id());
    let delivered = membership
        .binary()
        .is_some_and(|binary| forward(&binary, frame));
    if !delivered {
        forward(membership.conn(), "the binary is away".to_owned());
    }
}

/// Queues a frame. Closes a peer whose outbox is full: it would miss frames without knowing.
fn forward(to: &Outbox, frame: String) -> bool {
    match to.send(frame.into()) {
        Ok(()) => true,
        Err(SendError::Full) => {
            to.close();
            false
        }
        Err(_) => false,
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => demonstrate(),
        [flag, address] if flag == "--listen" => {
            let listener = TcpListener::bind(address)?;
            let address = listener.local_addr()?;
            let broker = Arc::new(Broker::new(address, Duration::from_secs(30)));
            println!("listening on {address}, until you press Enter");
            thread::spawn({
                let broker = Arc::clone(&broker);
                move || {
                    // Without a terminal, there is no line, and the broker goes on.
                    if matches!(io::stdin().read_line(&mut String::new()), Ok(1..)) {
                        broker.stop();
                    }
                }
            });
            broker.serve(&listener)
        }
        _ => Err("usage: threads [--listen ADDRESS]".into()),
    }
}

/// A binary and a phone talk through a broker of their own. Each step fails if it does not go as it says.
fn demonstrate() -> Result<(), Box<dyn Error + Send + Sync>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // Long enough for the binary to come back in time on a busy machine.
    let broker = Arc::new(Broker::new(address, Duration::from_secs(2)));
    let server = thread::spawn({
        let broker = Arc::clone(&broker);
        move || broker.serve(&listener)
    });

    println!("a phone comes early, and waits for its binary");
    let mut phone = Client::connect("phone", address, "phone laptop anna")?;
    let mut binary = Client::connect("binary", address, "binary laptop")?;
    binary.hears("ok")?;
    phone.hears("ok")?;
    phone.says("hello")?;
    binary.hears("anna hello")?;
    binary.says("anna welcome")?;
    phone.hears("welcome")?;

    println!("the binary drops: its server-id is in grace, and the phone stays");
    drop(binary);
    let mut binary = come_back(address)?;

    println!("it came back in time, which displaces the phone: the phone connects again");
    phone.hears("closed: the binary is back")?;
    phone.is_closed()?;
    let mut phone = Client::connect("phone", address, "phone laptop anna")?;
    phone.hears("ok")?;
    phone.says("hello again")?;
    binary.hears("anna hello again")?;

    println!("the binary drops and stays away: the phone is closed when the grace ends");
    drop(binary);
    phone.hears("closed: the binary did not come back")?;
    phone.is_closed()?;

    println!("the broker stops while a binary is connected");
    let mut binary = Client::connect("binary", address, "binary laptop")?;
    binary.hears("ok")?;
    broker.stop();
    binary.hears("closed: the broker stops")?;
    binary.is_closed()?;
    server.join().map_err(|_| "the broker panicked")??;
    println!("the broker has stopped");
    Ok(())
}

/// Connects a binary that was connected before. The broker refuses it until it has noticed that the old
/// connection has ended.
fn come_back(address: SocketAddr) -> Result<Client, Box<dyn Error + Send + Sync>> {
    loop {
        let mut binary = Client::connect("binary", address, "binary laptop")?;
        match binary.next()? {
            answer if answer == "ok" => return Ok(binary),
            answer if answer.contains("already claimed") => {
                thread::sleep(Duration::from_millis(10));
            }
            answer => return Err(answer.into()),
        }
    }
}

struct Client {
    name: &'static str,
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(name: &'static str, address: SocketAddr, first: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(&stream, "{first}")?;
        let stream = BufReader::new(stream);
        Ok(Self { name, stream })
    }

    fn says(&mut self, text: &str) -> io::Result<()> {
        println!("  {} says {text:?}", self.name);
        writeln!(self.stream.get_mut(), "{text}")
    }

    /// The next line. Empty at the end of the connection.
    fn next(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn hears(&mut self, expected: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        let line = self.next()?;
        println!("  {} hears {line:?}", self.name);
        if line == expected {
            Ok(())
        } else {
            Err(format!(
                "the demonstration failed: {} expected {expected:?}",
                self.name
            )
            .into())
        }
    }

    fn is_closed(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        match self.stream.read_line(&mut String::new())? {
            0 => Ok(()),
            _ => Err(format!("the demonstration failed: {} is not closed", self.name).into()),
        }
    }
}
