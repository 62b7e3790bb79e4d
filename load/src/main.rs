//! Loads a running relay over its wire protocol and measures it.
//!
//! This process simulates binaries and phones; the relay runs in another one. A task per connection
//! ([`link`]) drives a [`phone`] or a [`binary`]. *Orders* name the next frame to send and the time since
//! when it has been due. They come from the [`pacer`] at a fixed rate, or from the receiver of the previous
//! frame, up to the number allowed in flight. [`bare`] replaces the binaries when a TCP forwarder is
//! measured.
#![forbid(unsafe_code)]

mod bare;
mod binary;
mod crowd;
mod dial;
mod endpoint;
mod envelope;
mod error;
mod frame;
mod limits;
mod link;
mod numbers;
mod options;
mod pacer;
mod phone;
mod program;
mod progress;
mod run;
mod sources;
mod storm;
mod summary;
mod table;
mod tally;
mod tls;
mod traffic;
mod usage;
mod window;

use std::process::ExitCode;

use error::Error;
use options::Options;
use summary::Summary;

fn main() -> ExitCode {
    match Options::read().and_then(measure) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn measure(options: Options) -> Result<(), Error> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = options.threads {
        runtime.worker_threads(usize::from(threads.get()));
    }
    let runtime = runtime
        .enable_all()
        .build()
        .map_err(|error| Error::runtime(&error))?;
    let as_json = options.json;
    let summary = runtime.block_on(run::run(options))?;
    print(&summary, as_json)
}

fn print(summary: &Summary, as_json: bool) -> Result<(), Error> {
    let text = if as_json {
        serde_json::to_string_pretty(summary).map_err(|error| Error::Failed(error.to_string()))?
    } else {
        table::draw(summary)
    };
    println!("{text}");
    Ok(())
}
