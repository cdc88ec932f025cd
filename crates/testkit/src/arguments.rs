//! The command lines of the load generators.

use std::path::PathBuf;
use std::str::FromStr;
use std::{env, fs, vec};

use anyhow::{Context, Result, ensure};

use crate::server::{Builder, Parlor};

/// The words after the name of a program, read one by one.
#[derive(Debug)]
pub struct Arguments {
    words: vec::IntoIter<String>,
    last: String,
}

impl Arguments {
    /// These words.
    pub fn new(words: impl IntoIterator<Item = String>) -> Self {
        Self {
            words: words.into_iter().collect::<Vec<_>>().into_iter(),
            last: String::new(),
        }
    }

    /// The next word: a mode or the name of an option.
    pub fn word(&mut self) -> Option<String> {
        self.words.next().inspect(|word| self.last.clone_from(word))
    }

    /// The value of the option that was read last.
    ///
    /// # Errors
    /// When there is none, or it is no such value.
    pub fn value<T>(&mut self) -> Result<T>
    where
        T: FromStr,
        T::Err: Into<anyhow::Error>,
    {
        let name = &self.last;
        let word = self.words.next();
        let word = word.with_context(|| format!("{name} needs a value"))?;
        let read = word.parse::<T>().map_err(Into::into);
        read.with_context(|| format!("{name} {word}"))
    }
}

/// What every load generator is asked for.
#[derive(Clone, Debug, Default)]
pub struct Task {
    /// What is to be done, in this order.
    pub modes: Vec<String>,
    binary: Option<PathBuf>,
    arguments: Vec<String>,
    /// A smoke run.
    pub is_quick: bool,
}

impl Task {
    /// Takes a word if it is one of these modes or an option that all have: `--server-binary`,
    /// `--server-argument` and `--quick`. Whether it was.
    ///
    /// # Errors
    /// When its value is missing.
    pub fn takes(&mut self, word: &str, modes: &[&str], rest: &mut Arguments) -> Result<bool> {
        match word {
            "--server-binary" => self.binary = Some(rest.value()?),
            "--server-argument" => self.arguments.push(rest.value()?),
            "--quick" => self.is_quick = true,
            mode if modes.contains(&mode) => self.modes.push(mode.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// How many of something: as many as were asked for, or as many as usual, fewer in a quick run.
    /// One at least.
    pub fn number(&self, asked: Option<usize>, usual: usize, quick: usize) -> usize {
        let usual = if self.is_quick { quick } else { usual };
        asked.unwrap_or(usual).max(1)
    }

    /// How to start the server: the one that was named, or the one beside this program.
    ///
    /// # Errors
    /// When it is not there.
    pub fn server(&self) -> Result<Builder> {
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => env::current_exe()?.with_file_name("parlor"),
        };
        ensure!(
            fs::exists(&binary)?,
            "{} is not there: build it, or name one by --server-binary",
            binary.display()
        );
        let mut builder = Parlor::builder(binary);
        for argument in &self.arguments {
            builder = builder.argument(argument);
        }
        Ok(builder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<(Task, Option<u32>)> {
        let mut arguments = Arguments::new(words.iter().map(|word| (*word).to_owned()));
        let (mut task, mut own) = (Task::default(), None);
        while let Some(word) = arguments.word() {
            if task.takes(&word, &["walk", "run"], &mut arguments)? {
                continue;
            }
            ensure!(word == "--own", "no {word}");
            own = Some(arguments.value()?);
        }
        Ok((task, own))
    }

    #[test]
    fn modes_and_options_stand_in_any_order() {
        let (task, own) = read(&["run", "--own", "7", "--quick", "walk"]).expect("all is known");
        assert_eq!(task.modes, ["run", "walk"]);
        assert_eq!(own, Some(7));
        assert_eq!(task.number(None, 100, 5), 5);
        assert_eq!(task.number(Some(0), 100, 5), 1);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (words, said) in [
            (&["--own"][..], "--own needs a value"),
            (&["--own", "x"], "--own x"),
            (&["--server-binary"], "--server-binary needs a value"),
            (&["crawl"], "no crawl"),
        ] {
            let error = read(words).expect_err("it is wrong");
            assert_eq!(error.to_string(), said);
        }
    }
}
