//! Training one cell: the loop, the choice of the temperature, evaluation, and the state that a resumed run needs.

pub mod audit;
pub mod evaluate;
pub mod fdg;
mod perturbed;
pub mod state;
pub mod trainer;

pub use evaluate::Evaluation;
pub use state::State;
pub use trainer::{Ended, Job};
