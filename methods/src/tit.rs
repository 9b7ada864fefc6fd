//! TIT: time inheritance training. An ANN, then the largest T, then each smaller T, each stage starting from the
//! weights and the temperature of the one before (Li et al. 2021, "from ANN to SNN, from long to short").

use crate::Method;
use serde::{Deserialize, Serialize};

/// Where a method's weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// The chain: ANN, first T, each smaller T.
    Tit,
    /// Random weights for each T alone.
    Scratch,
}

/// How long a method that starts from scratch trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// The epochs of the recipe's `scratch` stage.
    #[default]
    FirstStage,
    /// All epochs of the chain up to this T, the ANN included: the control for TIT's longer training.
    WholeChain,
}

/// Epochs and rate of one stage; SGD, cosine to 0 within the stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StageRecipe {
    /// Passes over the training set.
    pub epochs: usize,
    /// Learning rate at the start.
    pub lr: f64,
    /// Weight decay on every parameter.
    pub weight_decay: f64,
}

/// The kinds of stages.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recipe {
    /// The ANN; absent where no chain starts (event data).
    pub ann: Option<StageRecipe>,
    /// The first SNN stage of a chain.
    pub first: StageRecipe,
    /// Each further stage of a chain.
    pub later: Option<StageRecipe>,
    /// Every stage that starts from random weights; as `first` if it is absent. Weights that start at random need a
    /// higher rate than weights that are fine-tuned, so a comparison of the two is fair only if each has its own.
    #[serde(default)]
    pub scratch: Option<StageRecipe>,
}

/// One stage of a method: what is trained, from what, for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// `None`: the ANN.
    pub time_steps: Option<usize>,
    /// Index of the stage from which it inherits.
    pub parent: Option<usize>,
    /// Epochs and rate.
    pub recipe: StageRecipe,
}

impl Stage {
    /// `ann`, `t6`, `t5` …
    pub fn name(&self) -> String {
        self.time_steps.map_or("ann".into(), |t| format!("t{t}"))
    }
}

/// The stages of `method` for `time_steps` (falling), parents before children.
pub fn stages(method: &Method, recipe: &Recipe, time_steps: &[usize]) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    if method.start == Start::Tit {
        stages.extend(recipe.ann.map(|recipe| Stage { time_steps: None, parent: None, recipe }));
    }
    let scratch = recipe.scratch.unwrap_or(recipe.first);
    let mut chain_epochs = recipe.ann.map_or(0, |ann| ann.epochs);
    for (i, &t) in time_steps.iter().enumerate() {
        let in_chain = if i == 0 { recipe.first } else { recipe.later.unwrap_or(recipe.first) };
        chain_epochs += in_chain.epochs;
        let (parent, stage) = match (method.start, method.budget) {
            (Start::Tit, _) => (stages.len().checked_sub(1), in_chain),
            (Start::Scratch, Budget::FirstStage) => (None, scratch),
            (Start::Scratch, Budget::WholeChain) => (None, StageRecipe { epochs: chain_epochs, ..scratch }),
        };
        stages.push(Stage { time_steps: Some(t), parent, recipe: stage });
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surrogate::{Dspike, Surrogate};

    const fn stage(epochs: usize, lr: f64) -> StageRecipe {
        StageRecipe { epochs, lr, weight_decay: 1e-4 }
    }

    const PAPER: Recipe =
        Recipe { ann: Some(stage(300, 0.1)), first: stage(300, 0.01), later: Some(stage(50, 0.004)), scratch: None };

    fn method(start: Start, budget: Budget) -> Method {
        let surrogate = Surrogate::Dspike(Dspike { temperature: 1.0 });
        Method { name: "m".into(), surrogate, fdg: false, temperature: None, start, budget }
    }

    #[test]
    fn the_papers_chain_goes_from_the_ann_to_the_smallest_t() {
        let chain = stages(&method(Start::Tit, Budget::FirstStage), &PAPER, &[6, 4, 2]);
        let seen: Vec<_> = chain.iter().map(|s| (s.name(), s.parent, s.recipe.epochs)).collect();
        let expected = [("ann", None, 300), ("t6", Some(0), 300), ("t4", Some(1), 50), ("t2", Some(2), 50)]
            .map(|(n, p, e)| (n.to_string(), p, e));
        assert_eq!(seen, expected);
    }

    #[test]
    fn from_scratch_each_t_stands_alone_and_the_control_gets_the_chains_epochs() {
        let alone = stages(&method(Start::Scratch, Budget::FirstStage), &PAPER, &[6, 4]);
        assert!(alone.iter().all(|s| s.parent.is_none() && s.recipe == PAPER.first));
        let control = stages(&method(Start::Scratch, Budget::WholeChain), &PAPER, &[6, 4, 2]);
        assert_eq!(control.iter().map(|s| s.recipe.epochs).collect::<Vec<_>>(), [600, 650, 700]);
        assert!(control.iter().all(|s| s.recipe.lr == 0.01));
    }

    #[test]
    fn from_scratch_each_t_trains_at_the_rate_of_its_own_recipe() {
        let recipe = Recipe { scratch: Some(stage(200, 0.1)), ..PAPER };
        let alone = stages(&method(Start::Scratch, Budget::FirstStage), &recipe, &[6, 4]);
        assert!(alone.iter().all(|s| s.recipe == stage(200, 0.1)));
        let control = stages(&method(Start::Scratch, Budget::WholeChain), &recipe, &[6, 4]);
        assert_eq!(
            control.iter().map(|s| (s.recipe.epochs, s.recipe.lr)).collect::<Vec<_>>(),
            [(600, 0.1), (650, 0.1)]
        );
        let chain = stages(&method(Start::Tit, Budget::FirstStage), &recipe, &[6, 4]);
        assert_eq!(chain.iter().map(|s| s.recipe.lr).collect::<Vec<_>>(), [0.1, 0.01, 0.004]);
    }
}
