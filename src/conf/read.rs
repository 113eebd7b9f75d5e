//! Owns what the readers of directives share. Each refuses what it can't take with a sentence that
//! names the directive and the value.

use crate::ffi::conf::{Arguments, ComplexValue, Refused};
use crate::ffi::log::Shown;

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

/// Refuses a directive with a sentence.
pub fn because<T>(sentence: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Because(sentence.into()))
}

/// Compiles the first argument of the directive `name`, which may hold variables.
pub fn compile(name: &str, arguments: Arguments<'_>) -> Result<ComplexValue, Refused> {
    match arguments.compile_first() {
        Some(value) => Ok(value),
        None => because(format!(
            "invalid value \"{}\" in the \"{name}\" directive",
            Shown(arguments.first())
        )),
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
