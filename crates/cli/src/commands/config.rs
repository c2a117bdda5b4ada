//! `tidegate config check|print|schema`.

use std::path::PathBuf;

use serde::Serialize;
use tidegate_runtime::spec::{self, Fault, GroupSpec};

use crate::args::{ConfigCommand, ConfigFile};
use crate::failure::{Exit, InvalidSpec};
use crate::output::Output;
use crate::setup;

/// The result of `config check`.
#[derive(Serialize)]
struct Checked {
    valid: bool,
    faults: Vec<FaultText>,
}

#[derive(Serialize)]
struct FaultText {
    path: String,
    message: String,
}

pub(super) fn run(command: ConfigCommand, output: &Output) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Check(file) => check(&path(file), output),
        ConfigCommand::Print(file) => print(&setup::load_spec(&path(file))?, output),
        ConfigCommand::Schema => schema(output),
    }
}

fn path(file: ConfigFile) -> PathBuf {
    // One of the two is given: the arguments say so.
    file.file.or(file.spec).unwrap_or_default()
}

fn check(file: &std::path::Path, output: &Output) -> anyhow::Result<Exit> {
    let Err(error) = setup::load_spec(file) else {
        let checked = Checked { valid: true, faults: Vec::new() };
        output.result(&format!("{} is valid", file.display()), &checked)?;
        return Ok(Exit::Done);
    };
    if let Some(invalid) = error.downcast_ref::<InvalidSpec>().filter(|_| output.is_json()) {
        let faults = invalid.faults.iter().map(fault_text).collect();
        output.result("", &Checked { valid: false, faults })?;
    }
    Err(error)
}

fn fault_text(fault: &Fault) -> FaultText {
    FaultText { path: fault.path.clone(), message: fault.message.clone() }
}

fn print(spec: &GroupSpec, output: &Output) -> anyhow::Result<Exit> {
    output.result(&spec.print(), spec)?;
    Ok(Exit::Done)
}

fn schema(output: &Output) -> anyhow::Result<Exit> {
    let schema = spec::schema();
    output.result(&serde_json::to_string_pretty(schema)?, schema)?;
    Ok(Exit::Done)
}
