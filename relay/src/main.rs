//! The `switchboard-relay` program: reads the flags and runs the relay until it is told to stop.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use switchboard_relay::{Config, Server, files, logging, signals};

fn main() -> ExitCode {
    let config = match Config::from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(error) => return error.report(),
    };
    logging::start(&config);
    files::raise_limit(&config);
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

#[tokio::main]
async fn run(config: Config) -> Result<(), switchboard_relay::Error> {
    // Before anybody can know that the relay listens, so that no signal is missed.
    let stop = signals::stop()?;
    Server::bind(config).await?.run(stop).await
}
