//! The `switchboard-relay` program: reads the flags and runs the relay until a signal stops it.
#![forbid(unsafe_code)]

use std::net::TcpListener;
use std::process::ExitCode;

use clap::CommandFactory;
use switchboard_relay::{
    Config, Error, Server, ServiceUrl, check_health, files, logging, service_manager, signals,
};

fn main() -> ExitCode {
    let config = match Config::from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    if let Some(kind) = config.generate {
        kind.print(Config::command());
        return ExitCode::SUCCESS;
    }
    if let Some(url) = &config.check_health {
        return check(url).map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS);
    }
    // Before any thread starts: it changes the environment.
    let socket = match service_manager::socket() {
        Ok(socket) => socket,
        Err(error) => return fail(&error),
    };
    let logs = logging::start(&config);
    Config::warn_about_variables();
    files::raise_limit(&config);
    match run(config, socket) {
        Ok(()) => {
            logs.end(|| ());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = error.exit_code();
            logs.end(move || error.print());
            code
        }
    }
}

fn fail(error: &Error) -> ExitCode {
    error.print();
    error.exit_code()
}

#[tokio::main]
async fn run(config: Config, socket: Option<TcpListener>) -> Result<(), Error> {
    // Before the relay listens, so that no signal is missed once a client can see it.
    let stop = signals::stop()?;
    Server::bind_or_use(socket, config).await?.run(stop).await
}

#[tokio::main(flavor = "current_thread")]
async fn check(url: &ServiceUrl) -> Result<(), Error> {
    check_health(url).await
}
