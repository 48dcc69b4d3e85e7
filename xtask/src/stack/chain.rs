//! The deepest chain of calls from a function on.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Result, bail};
use petgraph::{algo::tarjan_scc, graphmap::DiGraphMap};

use super::frame::Frame;

/// Functions and whom they call, by address.
pub struct Graph<'a> {
    frames: &'a BTreeMap<u64, Frame>,
    /// How often each of those that call themselves, by way of others or not, can be in one chain.
    most: BTreeMap<u64, u32>,
    /// Which of the functions that can reach each other a function belongs to.
    circle: BTreeMap<u64, usize>,
    known: HashMap<(u64, Rounds), Deepest>,
}

/// How often each function of one circle is in the chain already.
type Rounds = BTreeMap<u64, u32>;

/// Bytes, and the chain that takes them: each function, with what of them is taken in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deepest {
    pub bytes: u64,
    pub chain: Vec<(u64, u64)>,
}

/// Bytes of the return address of whoever calls first.
const RETURN: u64 = 8;

impl<'a> Graph<'a> {
    /// `most` says of a function how often it can be in one chain, if that is known.
    ///
    /// # Errors
    ///
    /// Functions call each other in a circle, and `most` says it of none of them: the error names them, by `name`.
    pub fn new(
        frames: &'a BTreeMap<u64, Frame>,
        most: impl Fn(u64) -> Option<u32>,
        name: impl Fn(u64) -> String,
    ) -> Result<Self> {
        let calls = frames.iter().flat_map(|(from, frame)| frame.calls.keys().map(|to| (*from, *to)));
        let all = DiGraphMap::<u64, ()>::from_edges(calls.clone());
        let circles = find_circles(&all);
        let most: BTreeMap<u64, u32> =
            circles.iter().flatten().filter_map(|function| Some((*function, most(*function)?))).collect();
        let bounded = |edge: &(u64, u64)| most.contains_key(&edge.0) || most.contains_key(&edge.1);
        let rest = DiGraphMap::<u64, ()>::from_edges(calls.filter(|edge| !bounded(edge)));
        let unbounded = find_circles(&rest).into_iter();
        let unbounded = unbounded.map(|circle| Vec::from_iter(circle.into_iter().map(&name)).join(", "));
        let unbounded: Vec<String> = unbounded.collect();
        if !unbounded.is_empty() {
            bail!("how often these call themselves is not known: {}", unbounded.join("; "));
        }
        let members = circles.iter().enumerate().flat_map(|(at, circle)| circle.iter().map(move |it| (*it, at)));
        Ok(Self { frames, most, circle: members.collect(), known: HashMap::new() })
    }

    /// The functions that call themselves and that there is a bound for.
    pub fn bounded(&self) -> impl Iterator<Item = u64> {
        self.most.keys().copied()
    }

    /// From a function that nobody of the image calls.
    pub fn deepest(&mut self, entry: u64) -> Deepest {
        let mut deepest = self.within(entry, Rounds::new()).unwrap_or_default();
        deepest.bytes += RETURN;
        if let Some((_, bytes)) = deepest.chain.first_mut() {
            *bytes += RETURN;
        }
        deepest
    }

    /// From a function that is reached with these functions of its own circle in the chain. `None` if it cannot be once more.
    fn within(&mut self, function: u64, mut rounds: Rounds) -> Option<Deepest> {
        if let Some(most) = self.most.get(&function) {
            let now = rounds.entry(function).or_default();
            *now += 1;
            if *now > *most {
                return None;
            }
        }
        let key = (function, rounds);
        if let Some(known) = self.known.get(&key) {
            return Some(known.clone());
        }
        let frames = self.frames;
        let Some(frame) = frames.get(&function) else { return Some(Deepest::default()) };
        let mut deepest = Deepest { bytes: frame.bytes, chain: vec![(function, frame.bytes)] };
        for (callee, taken) in &frame.calls {
            let same = self.circle.get(callee).is_some_and(|at| self.circle.get(&function) == Some(at));
            let rounds = if same { key.1.clone() } else { Rounds::new() };
            let Some(below) = self.within(*callee, rounds) else { continue };
            if taken + below.bytes > deepest.bytes {
                let chain = [vec![(function, *taken)], below.chain].concat();
                deepest = Deepest { bytes: taken + below.bytes, chain };
            }
        }
        self.known.insert(key, deepest.clone());
        Some(deepest)
    }
}

fn find_circles(graph: &DiGraphMap<u64, ()>) -> Vec<BTreeSet<u64>> {
    let is_circle = |some: &BTreeSet<u64>| some.len() > 1 || some.iter().any(|it| graph.contains_edge(*it, *it));
    tarjan_scc(graph).into_iter().map(BTreeSet::from_iter).filter(is_circle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function that takes `bytes` itself and calls these, with so many bytes taken there.
    fn frame(bytes: u64, calls: &[(u64, u64)]) -> Frame {
        Frame { bytes, calls: calls.iter().copied().collect(), ..Frame::default() }
    }

    fn graph<'a>(frames: &'a BTreeMap<u64, Frame>, most: &[(u64, u32)]) -> Result<Graph<'a>> {
        let most: BTreeMap<u64, u32> = most.iter().copied().collect();
        Graph::new(frames, |it| most.get(&it).copied(), |it| format!("f{it}"))
    }

    #[test]
    fn the_deepest_chain_is_not_the_one_of_the_largest_frame() {
        let frames = BTreeMap::from([
            (1, frame(50, &[(2, 30), (3, 58)])),
            (2, frame(100, &[])),
            (3, frame(16, &[(4, 24)])),
            (4, frame(60, &[])),
        ]);
        let deepest = graph(&frames, &[]).unwrap().deepest(1);
        // 8 for the return address of whoever calls the first.
        assert_eq!((deepest.bytes, deepest.chain), (150, vec![(1, 66), (3, 24), (4, 60)]));
    }

    #[test]
    fn a_frame_that_is_largest_where_nothing_is_called_counts() {
        let frames = BTreeMap::from([(1, frame(200, &[(2, 8)])), (2, frame(8, &[]))]);
        assert_eq!(graph(&frames, &[]).unwrap().deepest(1).bytes, 208);
    }

    #[test]
    fn a_function_that_calls_itself_counts_as_often_as_it_may() {
        let frames =
            BTreeMap::from([(1, frame(8, &[(2, 8)])), (2, frame(40, &[(2, 48), (3, 48)])), (3, frame(100, &[]))]);
        let deepest = graph(&frames, &[(2, 3)]).unwrap().deepest(1);
        assert_eq!(deepest.chain, [(1, 16), (2, 48), (2, 48), (2, 48), (3, 100)]);
    }

    #[test]
    fn a_circle_is_counted_by_one_of_its_functions() {
        let frames = BTreeMap::from([(1, frame(8, &[(2, 8)])), (2, frame(8, &[(3, 16)])), (3, frame(8, &[(2, 32)]))]);
        let deepest = graph(&frames, &[(3, 2)]).unwrap().deepest(1);
        assert_eq!(deepest.chain, [(1, 16), (2, 16), (3, 32), (2, 16), (3, 32), (2, 8)]);
    }

    #[test]
    fn a_circle_that_nothing_bounds_is_named() {
        let frames = BTreeMap::from([
            (1, frame(8, &[(1, 8), (2, 8)])),
            (2, frame(8, &[(3, 16)])),
            (3, frame(8, &[(2, 32)])),
            (4, frame(8, &[(4, 8)])),
        ]);
        let error = graph(&frames, &[(4, 2)]).err().unwrap().to_string();
        assert!(error.starts_with("how often these call themselves is not known: "), "{error}");
        assert!(error.contains("f1") && error.contains("f2, f3") && !error.contains("f4"), "{error}");
    }
}
