//! The command line.
//!
//! Owns: its words, and how results are printed: data to stdout, all else to stderr, exit codes as the docs have them.

use std::{
    fmt::Display,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use tokio::{sync::watch, time::timeout};

use crate::{
    audit::verify::Verifier,
    check,
    clock::Clock,
    config::{EXAMPLE, FleetKeyFile, Settings},
    keys::{self, StorageKeys},
    log::{Format, Log, Verbosity},
    server::Server,
    top::{
        client,
        screen::{self, Sort},
    },
};

/// Admits devices to Ollama by their pre-shared key and, where their policy asks for it, by what their TPM says.
#[derive(Debug, Parser)]
#[command(
    name = "attest-proxy",
    version,
    max_term_width = 100,
    after_help = "Begin with:\n  attest-proxy config --example > attest-proxy.toml\n  \
                  (umask 077; openssl rand -base64 32 > fleet.key)\n  \
                  attest-proxy check --config attest-proxy.toml\n  \
                  attest-proxy serve --config attest-proxy.toml\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong use or an invalid configuration."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Which running proxy is meant.
#[derive(Debug, clap::Args)]
struct RunningProxy {
    /// The operators' listener.
    #[arg(
        long,
        value_name = "ADDR",
        conflicts_with = "config",
        required_unless_present = "config"
    )]
    operators: Option<SocketAddr>,
    /// A configuration that names it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Listen and forward, until SIGTERM or SIGINT.
    ///
    /// Two lines on stderr say where: `operators: http://ADDR`, then `ready: http://ADDR` once clients can connect. A
    /// registry that is away does not end the program: it is tried again, /readyz says no meanwhile, and requests are
    /// answered 503, unless a snapshot on disk is young enough. SIGHUP reads the configuration, the fleet's keys and the
    /// certificates again, and opens the audit log again; what cannot change while it runs is named in the log. SIGTERM
    /// stops accepting, lets running answers end (`limits.drain`), and exits 0; a second one does not wait, and exits 1.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How the log on stderr looks.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        log: Format,
        /// What is logged; one line per request from `info` on, one per refusal from `warn` on [default: `log-level` of
        /// the configuration, or info].
        #[arg(long, value_enum, value_name = "LEVEL")]
        log_level: Option<Verbosity>,
    },
    /// Ask everything that `serve` would need: configuration, keys, TLS, registry, upstream.
    ///
    /// Changes nothing. Exit 0 when all is well, 1 when something is not, 2 when the configuration is invalid. A warning (a
    /// certificate that ends within 14 days) leaves it at 0.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print one JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Ask a running proxy whether it takes requests, as a container's health check does.
    ///
    /// Reads /readyz of the operators' listener. Exit 0 when it does, 1 when it does not, with every reason on a line.
    Ready {
        #[command(flatten)]
        of: RunningProxy,
    },
    /// Watch a running proxy: devices, streams, refusals, upstreams. Ctrl-C ends it.
    ///
    /// Reads /top of the operators' listener. Rates are those between two readings. Keys order the devices: b busy, a
    /// admitted per second, r refused, t tokens, n name; q ends it.
    Top {
        #[command(flatten)]
        of: RunningProxy,
        /// Between two readings.
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
        interval: Duration,
        /// By what devices are ordered; keys change it.
        #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
        sort: Sort,
        /// Show what is there once, and end.
        #[arg(long)]
        once: bool,
        /// With --once: the JSON object as it came.
        #[arg(long, requires = "once")]
        json: bool,
    },
    /// Read an audit log.
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Print a configuration to begin with.
    Config {
        /// A complete, commented file that parses.
        #[arg(long, required = true)]
        example: bool,
    },
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Say whether a log is whole, or the first line at which it is not.
    ///
    /// Files are read in the order given, as one chain: the oldest first. The hashes show every change inside them;
    /// with the fleet's key, from the configuration or from --key, so does a log that was written anew from end to
    /// end. Whole lines cut off at the very end leave no trace: the last number is to be compared with the metric
    /// attest_proxy_audit_sequence. Exit 0 when it is whole, also when a crash cut off its last line; 1 when not.
    Verify {
        /// A configuration, for the fleet's keys in it.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// A root key of before: its id and its file.
        #[arg(long, value_name = "ID=FILE", value_parser = key_file)]
        key: Vec<FleetKeyFile>,
        /// Print one JSON object instead of lines.
        #[arg(long)]
        json: bool,
        /// The log's files.
        #[arg(required = true, value_name = "LOG")]
        files: Vec<PathBuf>,
    },
}

/// How long the end of the program waits for whoever reads its log.
const LAST_LINES: Duration = Duration::from_secs(1);

fn key_file(text: &str) -> Result<FleetKeyFile, String> {
    let (id, file) = text.split_once('=').ok_or("write it like k0=old.key")?;
    Ok(FleetKeyFile {
        id: id.parse().map_err(|e: domain::id::InvalidId| e.to_string())?,
        file: file.into(),
    })
}

/// Runs the program.
#[must_use]
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve {
            config,
            log,
            log_level,
        } => read(&config).and_then(|settings| {
            let verbosity = log_level.or(settings.log_level).unwrap_or_default();
            let log = logging(log, verbosity)?;
            let relevel = move |settings: &Settings| {
                // The command line's word stands.
                if log_level.is_none() {
                    log.set(settings.log_level.unwrap_or_default());
                }
            };
            let served = on_runtime(serve(settings, config, log, relevel));
            log.flush(LAST_LINES);
            served
        }),
        Command::Check { config, json } => {
            read(&config).and_then(|settings| on_runtime(checked(settings, json)))
        }
        Command::Top {
            of,
            interval,
            sort,
            once,
            json,
        } => of
            .operators()
            .and_then(|address| on_runtime(watch_top(address, interval, sort, once, json))),
        Command::Ready { of } => of
            .operators()
            .and_then(|address| on_runtime(asked_whether_ready(address))),
        Command::Audit {
            command:
                AuditCommand::Verify {
                    config,
                    key,
                    json,
                    files,
                },
        } => verify(config.as_deref(), &key, json, &files),
        Command::Config { example: _ } => print(EXAMPLE.as_bytes()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "attest-proxy", &mut script);
            print(&script)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            if let Some(message) = message {
                say(&format!("error: {message}"));
            }
            ExitCode::from(code)
        }
    }
}

struct Failure {
    code: u8,
    message: Option<String>,
}

fn failed(message: &dyn Display) -> Failure {
    Failure {
        code: 1,
        message: Some(message.to_string()),
    }
}

fn read(path: &Path) -> Result<Settings, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| failed(&format_args!("cannot read {}: {e}", path.display())))?;
    Settings::parse(path, &text).map_err(|e| Failure {
        code: 2,
        message: Some(e.to_string()),
    })
}

fn on_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    // On one core, threads that hand work to each other only cost.
    let cores = std::thread::available_parallelism();
    let mut builder = if cores.is_ok_and(|cores| cores.get() == 1) {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|e| failed(&format_args!("cannot start: {e}")))?;
    let result = runtime.block_on(work);
    // What still runs in the background has nothing left to say.
    runtime.shutdown_background();
    result
}

/// Starts the log; what is in it when the program panics is written too.
fn logging(format: Format, verbosity: Verbosity) -> Result<&'static Log, Failure> {
    let log = Log::start(io::stderr(), format, verbosity)
        .map_err(|e| failed(&format_args!("cannot start the log: {e}")))?;
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        log.flush(LAST_LINES);
    }));
    Ok(log)
}

async fn serve(
    settings: Settings,
    config: PathBuf,
    log: &'static Log,
    relevel: impl Fn(&Settings) + Send + 'static,
) -> Result<(), Failure> {
    let server = Server::bind(settings, Clock::System)
        .await
        .map_err(|e| failed(&e))?;
    let (stop, stopped) = watch::channel(false);
    let reloader = server.reloader();
    listen_to_signals(stop, log, move || {
        let again = read(&config).map_err(|failure| failure.message.unwrap_or_default());
        if let Some(settings) = reloader.reload(again) {
            relevel(&settings);
        }
    })
    .map_err(|e| failed(&format_args!("cannot listen to signals: {e}")))?;
    let (address, operators) = (
        server.address().map_err(|e| failed(&e))?,
        server.operator_address().map_err(|e| failed(&e))?,
    );
    let (scheme, proxy) = (server.scheme(), server.proxy());
    let announced = async {
        log.say(&format!("operators: http://{operators}"));
        // Whoever waits for this line wants to send requests: the registry's first answer is worth a moment.
        let _ = timeout(Duration::from_secs(3), proxy.settled()).await;
        log.say(&format!("ready: {scheme}://{address}"));
    };
    tokio::join!(server.run(stopped), announced);
    Ok(())
}

fn listen_to_signals(
    stop: watch::Sender<bool>,
    log: &'static Log,
    reload: impl Fn() + Send + 'static,
) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => reload(),
            }
        }
        stop.send_replace(true);
        // A second signal is for someone who does not want to wait.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        log.flush(LAST_LINES);
        std::process::exit(1);
    });
    Ok(())
}

async fn checked(settings: Settings, json: bool) -> Result<(), Failure> {
    let findings = check::run(&settings).await;
    let ok = findings.iter().all(|finding| finding.ok);
    if json {
        let object = serde_json::json!({ "ok": ok, "checks": findings });
        print(format!("{object}\n").as_bytes())?;
    } else {
        for finding in &findings {
            let word = match (finding.ok, finding.warning) {
                (true, false) => "ok    ",
                (true, true) => "WARN  ",
                (false, _) => "FAILED",
            };
            print(format!("{word} {:<14} {}\n", finding.name, finding.detail).as_bytes())?;
        }
    }
    if ok {
        Ok(())
    } else {
        Err(Failure {
            code: 1,
            message: None,
        })
    }
}

impl RunningProxy {
    fn operators(&self) -> Result<SocketAddr, Failure> {
        match (self.operators, &self.config) {
            (Some(address), _) => Ok(address),
            (None, Some(path)) => read(path).map(|settings| settings.operator_listen),
            (None, None) => Err(failed(&"neither --operators nor --config")),
        }
    }
}

async fn asked_whether_ready(address: SocketAddr) -> Result<(), Failure> {
    let readiness = client::ready(address).await.map_err(|e| failed(&e))?;
    if readiness.ready {
        return print(b"ready\n");
    }
    for reason in &readiness.reasons {
        print(format!("{reason}\n").as_bytes())?;
    }
    Err(failed(&"it takes no requests"))
}

async fn watch_top(
    address: SocketAddr,
    every: Duration,
    sort: Sort,
    once: bool,
    json: bool,
) -> Result<(), Failure> {
    if !once {
        return client::run(address, every.max(Duration::from_millis(100)), sort)
            .await
            .map_err(|e| failed(&e));
    }
    let (top, text) = client::read(address).await.map_err(|e| failed(&e))?;
    if json {
        return print(&[&text[..], b"\n"].concat());
    }
    let (width, height) = client::size();
    let lines = screen::draw(&top, None, sort, width, height);
    print(format!("{}\n", lines.join("\n")).as_bytes())
}

fn verify(
    config: Option<&Path>,
    more: &[FleetKeyFile],
    json: bool,
    files: &[PathBuf],
) -> Result<(), Failure> {
    let mut known = match config {
        Some(path) => keys::load(&read(path)?).map_err(|e| failed(&e))?.storage,
        None => Vec::new(),
    };
    for key in more {
        known.push(Arc::new(StorageKeys::read(key).map_err(|e| failed(&e))?));
    }
    let mut verifier = Verifier::new((!known.is_empty()).then_some(&known));
    for path in files {
        let file = std::fs::File::open(path)
            .map_err(|e| failed(&format_args!("cannot read {}: {e}", path.display())))?;
        let name = path.display().to_string();
        if let Err(broken) = verifier.file(&name, io::BufReader::new(file)) {
            if json {
                let object = serde_json::json!({
                    "ok": false, "file": broken.file, "line": broken.line, "why": broken.why.to_string(),
                });
                print(format!("{object}\n").as_bytes())?;
            }
            return Err(failed(&broken));
        }
    }
    let report = verifier.report();
    if json {
        let object = serde_json::json!({ "ok": true, "report": report });
        print(format!("{object}\n").as_bytes())
    } else {
        print(format!("whole: {report}\n").as_bytes())
    }
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // `| head` is a way to read us.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| failed(&format_args!("cannot write: {e}"))),
    }
}

fn say(line: &str) {
    // Nobody is left to be told when stderr is closed.
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
