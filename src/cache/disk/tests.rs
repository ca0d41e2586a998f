//! The log against a plain map, under faults, crashes and damage; and races, forced.

mod clearing;
mod damage;
mod erasing;
mod model;
mod paper_folder;
