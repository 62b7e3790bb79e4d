//! Accepting connections: the first step, before TLS and HTTP.

use std::io;
use std::sync::Arc;

use axum_server::accept::Accept;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use super::arrivals::{Arrival, Arrivals};
use super::caller::Failed;

/// Finds out the client of each connection and takes a place for it. Reads the PROXY protocol header, where one
/// is expected, so that the acceptors within see neither it nor the proxy.
#[derive(Clone, Debug)]
pub(crate) struct ArrivalAcceptor<A> {
    pub(crate) inner: A,
    pub(crate) arrivals: Arc<Arrivals>,
}

impl<A, S> Accept<TcpStream, S> for ArrivalAcceptor<A>
where
    A: Accept<Arrival, S, Future: Send> + Clone + Send + 'static,
    S: Send + 'static,
{
    type Stream = A::Stream;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, io: TcpStream, service: S) -> Self::Future {
        let Self { inner, arrivals } = self.clone();
        async move {
            let arrival = arrivals.arrive(io).await?;
            let caller = arrival.caller;
            let accepted = inner.accept(arrival, service).await;
            accepted.map_err(|error| Failed::wrap(caller, error))
        }
        .boxed()
    }
}
