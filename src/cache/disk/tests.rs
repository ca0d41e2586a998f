//! The log against a plain map, under faults, crashes and damage.

mod clearing;
mod damage;
mod model;
mod paper_folder;
