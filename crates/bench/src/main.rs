//! The program: reads the command line, does what it says, and turns the outcome into an exit code.

use std::process::ExitCode;

use sonata_bench::arguments::{self, Command};
use sonata_bench::error::BenchError;
use sonata_bench::{report, server, session, target};

fn main() -> ExitCode {
    match perform() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sonata-bench: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn perform() -> Result<ExitCode, BenchError> {
    match arguments::parse(std::env::args().skip(1))? {
        Command::Help => report::print(&arguments::help()),
        Command::Targets => {
            let lines: String = target::targets().iter().map(|target| format!("{target}\n")).collect();
            report::print(&lines);
        }
        Command::Run { server, load, runs } => {
            server::end_servers_on_interrupt()?;
            session::run(&server, &load, runs)?;
        }
        Command::Compare { a, b, load, pairs, check } => {
            server::end_servers_on_interrupt()?;
            let missed = session::compare(&a, &b, &load, pairs)?;
            if missed > 0 {
                eprintln!("sonata-bench: {missed} targets missed");
            }
            if check && missed > 0 {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
