//! Owns what the readers of directives share. Each refuses what it can't take with a sentence that
//! names the directive and the value.

use std::path::Path;
use std::{fmt, fs};

use proxy_connect_core::list;

use crate::ffi::conf::{Arguments, ComplexValue, Refused};
use crate::ffi::log::Shown;
use crate::ffi::parse_size;

/// Fills `place` unless the directive stood before in the same block.
pub fn once<T>(
    place: &mut Option<T>,
    value: impl FnOnce() -> Result<T, Refused>,
) -> Result<(), Refused> {
    if place.is_some() {
        return Err(Refused::Duplicate);
    }

    *place = Some(value()?);
    Ok(())
}

/// One value of a directive, and where it stands. It is shown as the beginning of a sentence.
pub struct Value<'a> {
    /// The value's bytes.
    pub text: &'a [u8],
    directive: &'a str,
    /// The file and the line, unless it is an argument of the directive.
    line: Option<(&'a Path, usize)>,
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" in ", Shown(self.text))?;

        if let Some((path, line)) = self.line {
            write!(f, "{}:{line} of ", path.display())?;
        }

        write!(f, "the \"{}\" directive", self.directive)
    }
}

/// Has `take` see each of the arguments, and in place of a `file:PATH` each line of that file.
pub fn each_value(
    directive: &str,
    arguments: Arguments<'_>,
    mut take: impl FnMut(&Value<'_>) -> Result<(), Refused>,
) -> Result<(), Refused> {
    arguments.iter().try_for_each(|argument| match argument.strip_prefix(list::PREFIX) {
        Some(path) => each_line(directive, arguments, path, &mut take),
        None => take(&Value { text: argument, directive, line: None }),
    })
}

fn each_line(
    directive: &str,
    arguments: Arguments<'_>,
    path: &[u8],
    take: &mut dyn FnMut(&Value<'_>) -> Result<(), Refused>,
) -> Result<(), Refused> {
    if path.is_empty() {
        return because(format!("no path behind \"file:\" in the \"{directive}\" directive"));
    }

    let Some(path) = arguments.conf().full_path(path) else {
        return because("no memory is left");
    };

    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) => {
            return because(format!(
                "the file \"{}\" of the \"{directive}\" directive can't be read: {error}",
                path.display()
            ))
        }
    };

    for (line, text) in list::values(&text) {
        take(&Value { text, directive, line: Some((&path, line)) })?;
    }

    Ok(())
}

/// Refuses a directive with a sentence.
pub fn because<T>(sentence: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Because(sentence.into()))
}

/// Compiles the first argument of the directive `name`, which may hold variables.
pub fn compile(name: &str, arguments: Arguments<'_>) -> Result<ComplexValue, Refused> {
    compile_one(name, arguments, arguments.first())
}

/// Compiles one of the arguments of the directive `name`, which may hold variables.
pub fn compile_one(
    name: &str,
    arguments: Arguments<'_>,
    argument: &[u8],
) -> Result<ComplexValue, Refused> {
    match arguments.compile(argument) {
        Some(value) => Ok(value),
        None => {
            because(format!("invalid value \"{}\" in the \"{name}\" directive", Shown(argument)))
        }
    }
}

/// Reads the argument of the directive `name`, which takes `on` or `off`.
pub fn flag(name: &str, arguments: Arguments<'_>) -> Result<bool, Refused> {
    match arguments.first() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        other => because(format!(
            "invalid value \"{}\" in the \"{name}\" directive, it must be \"on\" or \"off\"",
            Shown(other)
        )),
    }
}

/// Splits `name:size`, the value of the directive `directive` that names a zone of at least `least` bytes. `None` for
/// the size where there is none.
pub fn zone_size<'a>(
    directive: &str,
    value: &'a [u8],
    least: usize,
) -> Result<(&'a [u8], Option<usize>), Refused> {
    let Some(at) = value.iter().position(|&byte| byte == b':') else {
        return Ok((value, None));
    };

    match parse_size(&value[at + 1..]) {
        Some(size) if size >= least => Ok((&value[..at], Some(size))),
        Some(_) => because(format!(
            "zone \"{}\" in the \"{directive}\" directive is too small, it must have {least} bytes at least",
            Shown(value)
        )),
        None => because(format!(
            "invalid size of the zone \"{}\" in the \"{directive}\" directive, give one such as \"1m\"",
            Shown(value)
        )),
    }
}
