//! The program: reads the command line, plays the scripts, and turns the verdict into an exit code.

use std::io;
use std::process::ExitCode;

use sonata_wire::arguments::{self, Command, HELP};
use sonata_wire::error::WireError;
use sonata_wire::judge;

fn main() -> ExitCode {
    match perform() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sonata-wire: {error}");
            ExitCode::from(2)
        }
    }
}

fn perform() -> Result<ExitCode, WireError> {
    let mut out = io::stdout().lock();
    match arguments::parse(std::env::args().skip(1))? {
        Command::Help => {
            io::Write::write_all(&mut out, HELP.as_bytes())
                .map_err(|error| WireError::io("writing help", error))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Play(options) => {
            let verdict = judge::run(&options, &mut out)?;
            Ok(if verdict.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}
