//! Command line parsing of the load generators.

use std::path::PathBuf;
use std::str::FromStr;
use std::{env, fs, vec};

use anyhow::{Context, Result, ensure};

use crate::server::{Builder, ServerProcess};

/// The command line arguments of a program, read one by one.
#[derive(Debug)]
pub struct Arguments {
    words: vec::IntoIter<String>,
    last: String,
}

impl Arguments {
    /// Creates the reader of these arguments.
    pub fn new(words: impl IntoIterator<Item = String>) -> Self {
        Self {
            words: words.into_iter().collect::<Vec<_>>().into_iter(),
            last: String::new(),
        }
    }

    /// Returns the next argument: a mode or the name of an option.
    pub fn word(&mut self) -> Option<String> {
        self.words.next().inspect(|word| self.last.clone_from(word))
    }

    /// Reads the value of the option that was read last.
    ///
    /// # Errors
    /// When the value is missing or cannot be parsed.
    pub fn value<T>(&mut self) -> Result<T>
    where
        T: FromStr,
        T::Err: Into<anyhow::Error>,
    {
        let name = &self.last;
        let word = self.words.next();
        let word = word.with_context(|| format!("{name} requires a value"))?;
        let read = word.parse::<T>().map_err(Into::into);
        read.with_context(|| format!("{name} {word}"))
    }
}

/// The options that all load generators have.
#[derive(Clone, Debug, Default)]
pub struct CommonOptions {
    /// The modes to run, in this order.
    pub modes: Vec<String>,
    binary: Option<PathBuf>,
    arguments: Vec<String>,
    /// Whether to do only a short smoke run.
    pub is_quick: bool,
}

impl CommonOptions {
    /// Parses an argument if it is one of these modes or a common option: `--server-binary`,
    /// `--server-argument` or `--quick`. Returns whether it was.
    ///
    /// # Errors
    /// When the option's value is missing.
    pub fn parse_option(
        &mut self,
        word: &str,
        modes: &[&str],
        rest: &mut Arguments,
    ) -> Result<bool> {
        match word {
            "--server-binary" => self.binary = Some(rest.value()?),
            "--server-argument" => self.arguments.push(rest.value()?),
            "--quick" => self.is_quick = true,
            mode if modes.contains(&mode) => self.modes.push(mode.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the requested count, or the default for this kind of run; at least 1.
    pub fn count(&self, requested: Option<usize>, default: usize, quick: usize) -> usize {
        let default = if self.is_quick { quick } else { default };
        requested.unwrap_or(default).max(1)
    }

    /// Returns a builder of the server: the binary given on the command line, or the one in the
    /// directory of this program.
    ///
    /// # Errors
    /// When the binary does not exist.
    pub fn server(&self) -> Result<Builder> {
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => env::current_exe()?.with_file_name("parlor"),
        };
        ensure!(
            fs::exists(&binary)?,
            "{} does not exist: build it, or pass --server-binary",
            binary.display()
        );
        let mut builder = ServerProcess::builder(binary);
        for argument in &self.arguments {
            builder = builder.argument(argument);
        }
        Ok(builder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<(CommonOptions, Option<u32>)> {
        let mut arguments = Arguments::new(words.iter().map(|word| (*word).to_owned()));
        let (mut common, mut own) = (CommonOptions::default(), None);
        while let Some(word) = arguments.word() {
            if common.parse_option(&word, &["walk", "run"], &mut arguments)? {
                continue;
            }
            ensure!(word == "--own", "unknown argument {word}");
            own = Some(arguments.value()?);
        }
        Ok((common, own))
    }

    #[test]
    fn modes_and_options_may_be_in_any_order() {
        let (common, own) =
            read(&["run", "--own", "7", "--quick", "walk"]).expect("valid arguments");
        assert_eq!(common.modes, ["run", "walk"]);
        assert_eq!(own, Some(7));
        assert_eq!(common.count(None, 100, 5), 5);
        assert_eq!(common.count(Some(0), 100, 5), 1);
    }

    #[test]
    fn errors_name_the_missing_or_invalid_argument() {
        for (words, message) in [
            (&["--own"][..], "--own requires a value"),
            (&["--own", "x"], "--own x"),
            (&["--server-binary"], "--server-binary requires a value"),
            (&["crawl"], "unknown argument crawl"),
        ] {
            let error = read(words).expect_err("invalid arguments");
            assert_eq!(error.to_string(), message);
        }
    }
}
