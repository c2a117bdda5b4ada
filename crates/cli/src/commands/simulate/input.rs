//! Streams for simulations: read from files, or made from a recipe with the numbers that are usual for a simulation.

use std::path::Path;

use anyhow::Context as _;
use tidegate_sim::planner::stream::{REALISTIC_CAPACITY, Realistic, Stream, Walk};

use crate::args::{RecipeArgs, RecipeName, SourceArgs};
use crate::failure::Refused;

/// The numbers of a recipe when nobody says others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    /// A walk's partitions and measurements.
    walk: (u32, u32),
    /// The same of a realistic load.
    realistic: (u32, u32),
}

/// A walk's step when nobody says another.
const DELTA: u32 = 5;

/// How unlike realistic partitions are when nobody says.
const SIGMA: f64 = 1.0;

/// Realistic partitions for a consumer when nobody says.
const PER_CONSUMER: u32 = 20;

/// A walk's consumers bear this, and those of a file when nobody says.
const WALK_CAPACITY: u64 = 100;

impl Usual {
    /// As the published comparison of algorithms has them.
    pub(super) const COMPARE: Self = Self { walk: (200, 501), realistic: (600, 120) };

    /// As the published experiment on latency has them.
    pub(super) const LATENCY: Self = Self { walk: (32, 100), realistic: (600, 120) };
}

/// Reads all files, or makes all streams.
pub(super) fn streams(args: &SourceArgs, usual: Usual) -> anyhow::Result<Vec<Stream>> {
    let Some(recipe) = args.recipe else {
        refuse(args.seeds.is_some(), "--seeds", "--recipe")?;
        refuse_options(&args.shape)?;
        return args.streams.iter().map(|file| from_file(file)).collect();
    };
    let seeds = (args.shape.seed..).take(args.seeds.unwrap_or(1) as usize);
    let shapes = seeds.map(|seed| RecipeArgs { seed, ..args.shape.clone() });
    shapes.map(|shape| made(recipe, &shape, usual)).collect()
}

/// The capacity that a consumer is packed to when nobody says another.
pub(super) fn usual_capacity(args: &SourceArgs) -> u64 {
    match args.recipe {
        Some(RecipeName::Realistic) => REALISTIC_CAPACITY,
        Some(RecipeName::Walk) | None => WALK_CAPACITY,
    }
}

/// Makes one stream.
pub(super) fn made(recipe: RecipeName, shape: &RecipeArgs, usual: Usual) -> anyhow::Result<Stream> {
    let numbers = |(partitions, iterations): (u32, u32)| {
        (shape.partitions.unwrap_or(partitions), shape.iterations.unwrap_or(iterations))
    };
    match recipe {
        RecipeName::Walk => {
            refuse(shape.sigma.is_some(), "--sigma", "--recipe realistic")?;
            refuse(shape.per_consumer.is_some(), "--per-consumer", "--recipe realistic")?;
            let (partitions, iterations) = numbers(usual.walk);
            let delta = shape.delta.unwrap_or(DELTA);
            Ok(Walk { partitions, delta, iterations }.stream(shape.seed))
        }
        RecipeName::Realistic => {
            refuse(shape.delta.is_some(), "--delta", "--recipe walk")?;
            let (partitions, iterations) = numbers(usual.realistic);
            let sigma = shape.sigma.unwrap_or(SIGMA);
            let per_consumer = shape.per_consumer.unwrap_or(PER_CONSUMER);
            Ok(Realistic { partitions, iterations, sigma, per_consumer }.stream(shape.seed))
        }
    }
}

/// Reads a file of text.
pub(in crate::commands) fn read(file: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(file).with_context(|| Refused::unreadable(file))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        Refused::input(file, format!("line {line}: not UTF-8 text")).into()
    })
}

fn from_file(file: &Path) -> anyhow::Result<Stream> {
    Stream::from_csv(&read(file)?).map_err(|error| Refused::input(file, error).into())
}

fn refuse_options(shape: &RecipeArgs) -> anyhow::Result<()> {
    let given = [
        ("--partitions", shape.partitions.is_some()),
        ("--delta", shape.delta.is_some()),
        ("--iterations", shape.iterations.is_some()),
        ("--sigma", shape.sigma.is_some()),
        ("--per-consumer", shape.per_consumer.is_some()),
    ];
    given.into_iter().try_for_each(|(option, is_given)| refuse(is_given, option, "--recipe"))
}

fn refuse(is_given: bool, option: &str, needs: &str) -> anyhow::Result<()> {
    if is_given {
        return Err(Refused::usage(format!("{option} needs {needs}")).into());
    }
    Ok(())
}
