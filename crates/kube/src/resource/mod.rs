//! The custom resource `ConsumerGroup`: its definition, generated from the specification's schema, and its status.
//!
//! Its `spec` is the group's specification. What the API server can check of that it checks, by the schema and by rules; all of it is
//! checked again by whoever reads it.

mod definition;
mod schema;
mod status;

pub use definition::definition;
pub use status::{Condition, GroupStatus, LastDecision, Numbers, Refused};

/// The API group.
pub const GROUP: &str = "tidegate.dev";

/// The version that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// What the resources are called.
pub const KIND: &str = "ConsumerGroup";

/// The same in the plural, as in a Role.
pub const PLURAL: &str = "consumergroups";
