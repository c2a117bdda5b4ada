//! A load of known records, and the audit that tells whether every one of them arrived.
//!
//! [`generator`] sends records at the rates of a [`profile`] and keeps in a [`ledger`] what was acknowledged to it.
//! [`audit`] reads a sink back and holds its content, record by record, against that ledger: nothing that a sender or a
//! consumer counted goes into its verdict.

pub mod audit;
pub mod generator;
pub mod histogram;
pub mod ledger;
pub mod profile;
pub mod ranges;
pub mod stamp;
