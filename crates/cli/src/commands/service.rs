//! `tidegate service set|unset|list`: fields of a group's specification that are set while it runs.
//!
//! What would not be taken is refused before it is written, by the same rules by which the controller reads it.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tidegate_kafka::Kafka;
use tidegate_runtime::errors::Code;
use tidegate_runtime::live::{Live, moved_sink};
use tidegate_runtime::service;
use tidegate_runtime::spec::{self, Config};
use tidegate_wire::Override;
use tidegate_wire::status::OverrideRow;
use tokio::sync::watch;

use crate::args::{ServiceCommand, SpecArgs};
use crate::failure::{Coded, Exit};
use crate::output::Output;
use crate::setup::{self, Patience};
use crate::wiring;

/// A change that was written.
#[derive(Serialize)]
struct Written {
    field: String,
    /// Left out when the field is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    offset: u64,
}

pub(super) async fn run(command: ServiceCommand, output: &Output) -> anyhow::Result<Exit> {
    match command {
        ServiceCommand::Set { spec: file, field, value } => {
            let value = spec::from_yaml(&value).map_err(|error| {
                Coded::new(Code::ConfigInvalid, format!("the value of {field} is no YAML: {error}"))
            })?;
            let group = Group::open(&file).await?;
            let config = group.taken(&field, &value)?;
            // A ledger that is only watched may be weak, and one that is owned may not.
            wiring::check_topics(&*group.kafka.admin(), &config).await?;
            group.write(field, Some(value), output).await
        }
        ServiceCommand::Unset { spec, field } => {
            let group = Group::open(&spec).await?;
            if !group.live.rows().iter().any(|row| row.field == field) {
                output.result(&format!("{field} is not set"), &Vec::<Written>::new())?;
                return Ok(Exit::Done);
            }
            group.write(field, None, output).await
        }
        ServiceCommand::List { spec } => list(&Group::open(&spec).await?, output),
    }
}

/// A group with what is set for it.
struct Group {
    kafka: Kafka,
    config: Arc<Config>,
    live: Live,
}

impl Group {
    async fn open(args: &SpecArgs) -> anyhow::Result<Self> {
        let (spec, config) = setup::load_group(args)?;
        let kafka = setup::connect(&config.cluster, "tidegate-service", Patience::Command).await?;
        wiring::check_topics(&*kafka.admin(), &config).await?;
        let specs = watch::channel(spec).1;
        let followed = wiring::followed(&kafka, &config, specs).await?;
        Ok(Self { kafka, config, live: followed.live().clone() })
    }

    fn change(&self, field: &str, value: Option<Value>) -> Override {
        Override { group: self.config.group.clone(), field: field.to_owned(), value }
    }

    /// What is in effect with the field set.
    fn taken(&self, field: &str, value: &Value) -> anyhow::Result<Arc<Config>> {
        let mut live = self.live.clone();
        live.set(&[self.change(field, Some(value.clone()))]);
        let refused = live.rows().into_iter().find(|row| row.field == field);
        // What it replaces may have been in effect; later readers do not know.
        let moved = || moved_sink(self.live.config(), live.config());
        match refused.and_then(|row| row.refused).or_else(moved) {
            None => Ok(Arc::clone(live.config())),
            Some(why) => {
                let text = format!("{field} cannot be set to {value}: {why}");
                Err(Coded::new(Code::ConfigInvalid, text).into())
            }
        }
    }

    async fn write(
        &self,
        field: String,
        value: Option<Value>,
        output: &Output,
    ) -> anyhow::Result<Exit> {
        let topic = &self.config.control_topics.service;
        let log = wiring::control_log(&self.kafka, &self.config, topic)?;
        let offset = service::write(&*log, &self.change(&field, value.clone())).await?;
        let text = match &value {
            Some(value) => format!("{field}: set to {value}"),
            None => format!("{field}: as the specification says"),
        };
        output.result(&text, &Written { field, value, offset })?;
        Ok(Exit::Done)
    }
}

fn list(group: &Group, output: &Output) -> anyhow::Result<Exit> {
    let rows = group.live.rows();
    let mut text = String::new();
    for OverrideRow { field, value, refused } in &rows {
        writeln!(text, "{field}: {value}")?;
        if let Some(why) = refused {
            writeln!(text, "  not in effect: {why}")?;
        }
    }
    if rows.is_empty() {
        text.push_str("nothing is set: the group runs as its specification says\n");
    }
    output.result(text.trim_end(), &rows)?;
    Ok(Exit::Done)
}
