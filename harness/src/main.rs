//! The `harness` binary.

use clap::{CommandFactory, Parser};
use harness::cli::{Cli, Command};
use harness::commands::{self, eval, list};
use harness::exit::{self, Code, code_of};
use harness::ops::cpu::limit_by_environment;
use harness::ranks;
use harness::train::trainer::Interrupt;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps freed memory: a training step asks for the same maps again, and fresh pages cost up to a sixth of a pass.
fn keep_pages() {
    /// `mi_option_purge_delay` of mimalloc.h, versions 2 and 3; the crate has no name for it. -1 is never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: an option may be set at any time.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}

fn main() -> ExitCode {
    keep_pages();
    let cli = Cli::parse();
    end_with_standard_output();
    start_logging();
    match limit_by_environment().and_then(|()| start_threads(cli.threads)) {
        // On one of the pool's threads: from another each loop would cost two threads' sleeping and waking.
        Ok(()) => rayon::scope(|_| say(run(&cli.command))),
        Err(error) => say(Err(error)),
    }
}

/// The exit code, and what is wrong on standard error.
fn say(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that closed the pipe (`harness list cells | head`) has all it wants.
        Err(error) if error.chain().any(is_broken_pipe) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(std::io::stderr(), "harness: {error:#}").ok();
            ExitCode::from(code_of(&error) as u8)
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Suite(args) => commands::suite::suite(args, catch_signals()?),
        Command::List(args) => list::list(args),
        Command::Status(args) => list::status(args),
        Command::Report(args) => commands::report::report(args),
        Command::Compare { a, b, json } => commands::report::compare(a, b, *json),
        Command::Check(args) => commands::report::check(args),
        Command::Verify(args) => commands::report::verify(args),
        Command::Data { command } => commands::data::data(command),
        Command::Merge(args) => commands::merge::merge(args),
        Command::Eval(args) => eval::eval(args),
        Command::ReproCheck(args) => eval::repro_check(args, &catch_signals()?),
        Command::Selftest { device, json } => commands::selftest::selftest(*device, *json),
        Command::Parity { fixture } => commands::selftest::parity_of(fixture),
        Command::Bench { command } => commands::bench::bench(command),
        Command::Doctor { data_dir } => {
            commands::doctor::doctor(data_dir.as_deref());
            Ok(())
        }
        Command::Man { dir } => {
            std::fs::create_dir_all(dir)?;
            Ok(clap_mangen::generate_to(Cli::command(), dir)?)
        }
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "harness", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HARNESS_LOG").unwrap_or_else(|_| "warn".into());
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .without_time()
        .init();
}

/// `println!` panics where standard output cannot be written. A reader that closed the pipe has all it wants; any other
/// cause is exit 74.
fn end_with_standard_output() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to stdout") {
            if text.contains("Broken pipe") {
                std::process::exit(0);
            }
            writeln!(std::io::stderr(), "harness: {text}").ok();
            std::process::exit(Code::Io as i32);
        }
        others(panic);
    }));
}

/// What systems give a main thread.
const MAIN_STACK: usize = 8 << 20;

fn start_threads(threads: Option<usize>) -> anyhow::Result<()> {
    let threads = match threads {
        Some(0) => return Err(exit::usage("--threads 0: at least one thread is needed")),
        Some(n) => n,
        None => 0, // rayon's own choice: one a core
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(MAIN_STACK).build_global().map_err(exit::no_thread)
}

/// A scheduler signals a job's script and its processes, and the script passes it on: signals so near are one request.
const ONE_REQUEST: Duration = Duration::from_millis(500);

/// The first signal asks for a save and an end; the second ends at once.
fn catch_signals() -> anyhow::Result<Interrupt> {
    use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR2};
    let interrupt = Interrupt::default();
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGUSR2])?;
    let seen = interrupt.clone();
    let watch = move || {
        let mut first: Option<Instant> = None;
        for _ in signals.forever() {
            match first {
                Some(first) if first.elapsed() > ONE_REQUEST => std::process::exit(Code::Resumable as i32),
                Some(_) => continue,
                None => first = Some(Instant::now()),
            }
            seen.ask();
            if !ranks::is_mute() {
                writeln!(std::io::stderr(), "harness: saving, then stopping; a second signal stops at once").ok();
            }
        }
    };
    std::thread::Builder::new().spawn(watch).map_err(exit::no_thread)?;
    Ok(interrupt)
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
