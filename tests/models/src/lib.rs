//! Races of the shipped source, each written once over the fake machine, and what explores them.
//!
//! A scenario is a world, one step for each CPU, and what must be true when all are done ([`scenario`]). The same
//! scenario runs under four runners ([`runner`]); which one is a matter of how this crate is built, because hv-core's
//! `sync` names the checker's types then. The binary `models` says at its head how it is built for each.

pub mod runner;
pub mod scenario;
pub mod scenarios;

#[cfg(test)]
mod tests {
    use super::runner::{Effort, Plan, explore};
    use super::scenarios::all;

    #[test]
    fn every_scenario_holds_at_a_glance() {
        let plan = Plan { effort: Effort::Brief, preemptions: None, seed: 1 };
        all().for_each(|model| explore(model, &plan));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().map(|model| model.about().name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count());
    }
}
