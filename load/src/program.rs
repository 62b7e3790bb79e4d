//! A relay or forwarder that this program starts, and stops after the measurement.

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

/// The time that the program has to start listening.
const STARTING_TIME: Duration = Duration::from_secs(10);

/// The time that the program has to exit; a relay gives its peers ten seconds.
const ENDING_TIME: Duration = Duration::from_secs(15);

/// The text of the log line that reports the listening address.
const LISTENING: &str = "listening address=";

/// Spare connections for those that are about to close.
const SPARE_CONNECTIONS: u32 = 1_000;

pub(crate) struct Program {
    /// Killed if this is dropped without [`Program::stop`].
    child: Child,
    pub(crate) endpoint: Endpoint,
    pub(crate) pid: u32,
}

impl Program {
    /// Starts the program: a forwarder if there is a far end, otherwise a relay.
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
        // Ctrl-C must only reach this program, which stops the relay once it has printed the table.
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
            Err(_) => return Err(failed("it does not log its listening address".to_owned())),
        };
        // Keep reading: a full pipe would block the program.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Ok(Self {
            child,
            endpoint,
            pid,
        })
    }

    /// Asks the program to exit, and waits for it for a bounded time.
    pub(crate) async fn stop(mut self, usage: &mut Usage) {
        usage.terminate();
        // Dropping it kills it.
        let _ = timeout(ENDING_TIME, self.child.wait()).await;
    }
}

/// The flags that a load needs, except those that the user gives, and the user's flags.
fn flags(options: &Options, far_end: Option<SocketAddr>) -> Vec<OsString> {
    let connections = options.connections();
    let at_one_server = connections / u32::from(options.servers.get()) + 1;
    let mut needed = vec![("--listen", "127.0.0.1:0".to_owned())];
    match far_end {
        Some(far_end) => needed.push(("--to", far_end.to_string())),
        None => needed.extend([
            ("--metrics-listen", "off".to_owned()),
            ("--rate-burst", "0".to_owned()),
            ("--max-per-address", "0".to_owned()),
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

/// Whether a flag is given, as `--flag value` or `--flag=value`.
fn gives(flags: &[impl AsRef<OsStr>], name: &str) -> bool {
    flags.iter().any(|flag| {
        let flag = flag.as_ref().to_string_lossy();
        flag.split('=').next() == Some(name)
    })
}

async fn listening(log: &mut Lines<BufReader<ChildStderr>>) -> Result<Endpoint, String> {
    let mut last = "it ended without output".to_owned();
    while let Ok(Some(line)) = log.next_line().await {
        if let Some((_, rest)) = line.split_once(LISTENING) {
            return endpoint(rest).ok_or(line);
        }
        line.trim_start_matches("error: ").clone_into(&mut last);
    }
    Err(last)
}

/// Parses the address, and whether it uses TLS.
fn endpoint(text: &str) -> Option<Endpoint> {
    let mut words = text.split_whitespace();
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
    fn the_log_line_gives_the_address_and_whether_it_uses_tls() {
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
    fn a_given_flag_is_found_in_both_forms() {
        let flags = ["--grace=1s", "--rate-burst", "7"];
        assert!(gives(&flags, "--grace") && gives(&flags, "--rate-burst"));
        assert!(!gives(&flags, "--rate"));
    }
}
