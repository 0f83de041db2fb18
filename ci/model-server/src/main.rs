//! `model-server`: stands in for Ollama where none is installed: in the demo, in tests, on a developer's machine.
//!
//! Owns: the listener and the choice of engine. Refuses: to be a product. It knows one model, answers one request after another, has no access
//! control and listens on loopback unless told otherwise. Who may call it: the demo runner and tests; nothing that is shipped.
//! Limits today: embeddings mean nothing; no images, tools or `format`; those fields are ignored as Ollama ignores what it does not know.

mod anthropic;
mod api;
mod embed;
mod engine;
mod ollama;
mod openai;
mod scripted;
#[cfg(feature = "smollm2")]
mod smollm2;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::engine::{Engine, EngineError};
use crate::worker::Worker;

/// For development: a model server that speaks Ollama's API.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Answer from a script instead of a model: no weights, no waiting.
    #[arg(long, conflicts_with = "weights", required_unless_present = "weights")]
    scripted: bool,
    /// SmolLM2-135M-Instruct as a GGUF file (needs the build feature `smollm2`).
    #[arg(long, value_name = "GGUF")]
    weights: Option<PathBuf>,
    /// With --scripted: milliseconds between two words.
    #[arg(long, default_value_t = 15, value_name = "MS", requires = "scripted")]
    pace: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            say(&format!("error: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    #[error("cannot start the async runtime: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

fn run(args: &Args) -> Result<(), StartError> {
    let engine = engine(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    runtime.block_on(serve(args.listen, Worker::start(engine)?))
}

fn engine(args: &Args) -> Result<Box<dyn Engine>, EngineError> {
    match &args.weights {
        None => Ok(Box::new(scripted::Scripted::new(Duration::from_millis(
            args.pace,
        )))),
        #[cfg(feature = "smollm2")]
        Some(path) => Ok(Box::new(smollm2::SmolLm2::load(path)?)),
        #[cfg(not(feature = "smollm2"))]
        Some(_) => Err(EngineError::NotBuiltIn),
    }
}

async fn serve(listen: SocketAddr, worker: Worker) -> Result<(), StartError> {
    let failed = |why| StartError::Listen(listen, why);
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    say(&format!(
        "ready: http://{}",
        listener.local_addr().map_err(failed)?
    ));
    let worker = Arc::new(worker);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: let some connections end first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let worker = Arc::clone(&worker);
        tokio::spawn(async move {
            let service =
                hyper::service::service_fn(move |request| api::answer(Arc::clone(&worker), request));
            // A connection that breaks concerns only the client that broke it.
            let _gone = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

#[expect(clippy::print_stderr, reason = "the one place of this program that prints")]
fn say(line: &str) {
    eprintln!("{line}");
}
