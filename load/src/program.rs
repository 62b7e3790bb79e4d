//! A relay, or a forwarder, that this program starts, and stops when it has measured.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::options::Options;
use crate::usage::Usage;

/// How long it may take to listen.
const STARTING_TIME: Duration = Duration::from_secs(10);

/// How long it may take to end; a relay gives its peers ten seconds.
const ENDING_TIME: Duration = Duration::from_secs(15);

/// What its log says when it listens.
const LISTENING: &str = "listening address=";

/// Beyond what is needed: connections that are about to go.
const SPARE_CONNECTIONS: u32 = 1_000;

pub(crate) struct Program {
    /// Killed where this is dropped without [`Program::stop`].
    child: Child,
    pub(crate) endpoint: Endpoint,
    pub(crate) pid: u32,
}

impl Program {
    /// Where there is a far end, the program is a forwarder to it.
    pub(crate) async fn start(
        program: &Path,
        options: &Options,
        far_end: Option<SocketAddr>,
    ) -> Result<Self, Error> {
        let failed = |why: String| {
            let program = program.display();
            Error::Failed(format!("{program} did not start: {why}"))
        };
        let mut command = Command::new(program);
        command
            .args(flags(options, far_end))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // A Ctrl-C is for this program; it stops the relay when the table is made.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let (pid, log) = child
            .id()
            .zip(child.stderr.take())
            .ok_or_else(|| failed("it ended at once".to_owned()))?;
        let mut log = BufReader::new(log).lines();
        let endpoint = match timeout(STARTING_TIME, listening(&mut log)).await {
            Ok(endpoint) => endpoint.map_err(failed)?,
            Err(_) => return Err(failed("it does not say where it listens".to_owned())),
        };
        // Unread, its log would fill the pipe and stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Ok(Self {
            child,
            endpoint,
            pid,
        })
    }

    /// Asks it to end, and waits for it a bounded time.
    pub(crate) async fn stop(mut self, usage: &mut Usage) {
        usage.terminate();
        // Dropped, it is killed.
        let _ = timeout(ENDING_TIME, self.child.wait()).await;
    }
}

/// Those that a load needs, unless they are given; and those that are.
fn flags(options: &Options, far_end: Option<SocketAddr>) -> Vec<OsString> {
    let connections = options.connections();
    let at_one_server = connections / u32::from(options.servers.get()) + 1;
    let mut needed = vec![("--listen", "127.0.0.1:0".to_owned())];
    match far_end {
        Some(far_end) => needed.push(("--to", far_end.to_string())),
        None => needed.extend([
            ("--metrics-listen", "off".to_owned()),
            ("--rate-burst", "0".to_owned()),
            (
                "--max-connections",
                (connections + SPARE_CONNECTIONS).to_string(),
            ),
            ("--max-phones", (2 * at_one_server).to_string()),
        ]),
    }
    let given = &options.relay_flags;
    let needed = needed.into_iter().filter(|(name, _)| !gives(given, name));
    let needed = needed.flat_map(|(name, value)| [name.into(), value.into()]);
    needed.chain(given.iter().cloned()).collect()
}

/// Whether a flag is among these, as `--flag value` or `--flag=value`.
fn gives(flags: &[impl AsRef<OsStr>], name: &str) -> bool {
    flags.iter().any(|flag| {
        let flag = flag.as_ref().to_string_lossy();
        flag.split('=').next() == Some(name)
    })
}

async fn listening(log: &mut Lines<BufReader<ChildStderr>>) -> Result<Endpoint, String> {
    let mut last = "it ended without a word".to_owned();
    while let Ok(Some(line)) = log.next_line().await {
        if let Some((_, said)) = line.split_once(LISTENING) {
            return endpoint(said).ok_or(line);
        }
        line.trim_start_matches("error: ").clone_into(&mut last);
    }
    Err(last)
}

/// The address, and whether it wants TLS.
fn endpoint(said: &str) -> Option<Endpoint> {
    let mut words = said.split_whitespace();
    let address: SocketAddr = words.next()?.parse().ok()?;
    Some(Endpoint {
        secure: words.any(|word| word == "tls=true"),
        host: address.ip().to_string(),
        port: address.port(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_log_says_where_and_how() {
        let plain = endpoint("127.0.0.1:80 tls=false").expect("an address");
        assert_eq!((plain.secure, plain.port), (false, 80));
        assert!(
            endpoint("127.0.0.1:80 tls=true")
                .expect("an address")
                .secure
        );
        assert_eq!(endpoint("nowhere"), None);
    }

    #[test]
    fn a_flag_that_is_given_is_found_in_both_forms() {
        let flags = ["--grace=1s", "--rate-burst", "7"];
        assert!(gives(&flags, "--grace") && gives(&flags, "--rate-burst"));
        assert!(!gives(&flags, "--rate"));
    }
}
