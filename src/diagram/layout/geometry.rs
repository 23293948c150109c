//! What must hold of every drawing, checked on random models. The pictures of real machines are checked with the same
//! rules where they are made.

use super::*;

/// Everything that is wrong with a drawing.
pub(in super::super) fn faults(model: &Model, drawing: &Drawing) -> Vec<String> {
    let mut checker = Checker { model, drawing, faults: Vec::new() };
    checker.boxes();
    checker.labels();
    checker.lines();
    checker.overlaps();
    checker.faults
}

struct Checker<'a> {
    model: &'a Model,
    drawing: &'a Drawing,
    faults: Vec<String>,
}

impl Rect {
    fn bottom(&self) -> i32 {
        self.y + self.h
    }
}

fn overlap(a: &Rect, b: &Rect) -> bool {
    a.x < b.right() && b.x < a.right() && a.y < b.bottom() && b.y < a.bottom()
}

fn holds(outer: &Rect, inner: &Rect) -> bool {
    outer.x <= inner.x && outer.y <= inner.y && inner.right() <= outer.right() && inner.bottom() <= outer.bottom()
}

/// Touching is not crossing.
fn crosses(a: Point, b: Point, area: &Rect) -> bool {
    a.x.min(b.x) < area.right() && area.x < a.x.max(b.x) && a.y.min(b.y) < area.bottom() && area.y < a.y.max(b.y)
        || a.x == b.x && area.x < a.x && a.x < area.right() && a.y.min(b.y) < area.bottom() && area.y < a.y.max(b.y)
        || a.y == b.y && area.y < a.y && a.y < area.bottom() && a.x.min(b.x) < area.right() && area.x < a.x.max(b.x)
}

fn on_border(point: Point, area: &Rect) -> bool {
    let within = area.x <= point.x && point.x <= area.right() && area.y <= point.y && point.y <= area.bottom();
    within && (point.x == area.x || point.x == area.right() || point.y == area.y || point.y == area.bottom())
}

impl Checker<'_> {
    fn fault(&mut self, is_fault: bool, text: impl FnOnce() -> String) {
        if is_fault {
            self.faults.push(text());
        }
    }

    fn is_around(&self, outer: usize, node: usize) -> bool {
        outer == node || self.model.child_towards(outer, node).is_some()
    }

    fn has_children(&self, node: usize) -> bool {
        node == 0 || self.model.nodes.iter().any(|other| other.parent == Some(node))
    }

    fn boxes(&mut self) {
        let boxes = &self.drawing.boxes;
        for a in 1..boxes.len() {
            let parent = self.model.nodes[a].parent.unwrap_or(0);
            self.fault(!holds(&boxes[parent], &boxes[a]), || format!("box {a} sticks out of {parent}"));
            self.fault(overlap(&self.drawing.headings[parent], &boxes[a]), || format!("box {a} on the heading of {parent}"));
            for b in a + 1..boxes.len() {
                let apart = self.is_around(a, b) || self.is_around(b, a) || !overlap(&boxes[a], &boxes[b]);
                self.fault(!apart, || format!("boxes {a} and {b} overlap"));
            }
        }
        let all = Rect::at(Point::default(), self.drawing.size);
        for label in self.drawing.routes.iter().filter_map(|route| route.label) {
            self.fault(!holds(&all, &label), || format!("label {label:?} sticks out of the picture"));
        }
    }

    fn labels(&mut self) {
        let labels: Vec<(usize, Rect)> =
            self.drawing.routes.iter().enumerate().filter_map(|(edge, route)| Some((edge, route.label?))).collect();
        for (position, (edge, label)) in labels.iter().enumerate() {
            for (node, area) in self.drawing.boxes.iter().enumerate() {
                let loop_outside = self.model.edges[*edge].from == 0 && self.model.edges[*edge].to == 0;
                let inside = self.has_children(node) && holds(area, label);
                self.fault(!inside && !loop_outside && overlap(area, label), || format!("label of {edge} on box {node}"));
                let heading = &self.drawing.headings[node];
                self.fault(overlap(heading, label), || format!("label of {edge} on the heading of {node}"));
            }
            for (other, area) in &labels[position + 1..] {
                self.fault(overlap(area, label), || format!("labels of {edge} and {other} overlap"));
            }
        }
    }

    fn lines(&mut self) {
        for (edge, route) in self.drawing.routes.iter().enumerate() {
            let ends = &self.model.edges[edge];
            let (Some(first), Some(last)) = (route.points.first(), route.points.last()) else {
                self.faults.push(format!("edge {edge} has no line"));
                continue;
            };
            for (point, node) in [(first, ends.from), (last, ends.to)] {
                self.fault(!on_border(*point, &self.drawing.boxes[node]), || format!("edge {edge} does not end at {node}"));
            }
            let labelled = route.label.is_none_or(|label| route.points.windows(2).any(|pair| crosses(pair[0], pair[1], &label)));
            self.fault(!labelled, || format!("edge {edge} misses its label"));
            for pair in route.points.windows(2) {
                self.fault(pair[0].x != pair[1].x && pair[0].y != pair[1].y, || format!("edge {edge} is slanted"));
                self.line(edge, pair[0], pair[1]);
            }
        }
    }

    fn line(&mut self, edge: usize, a: Point, b: Point) {
        let (from, to) = (self.model.edges[edge].from, self.model.edges[edge].to);
        for node in 0..self.drawing.boxes.len() {
            let own = self.has_children(node) && (self.is_around(node, from) || self.is_around(node, to));
            self.fault(!own && crosses(a, b, &self.drawing.boxes[node]), || format!("edge {edge} crosses box {node}"));
            self.fault(self.has_children(node) && crosses(a, b, &self.drawing.headings[node]), || {
                format!("edge {edge} crosses heading {node}")
            });
        }
        for (other, route) in self.drawing.routes.iter().enumerate() {
            if let Some(label) = route.label.filter(|_| other != edge) {
                self.fault(crosses(a, b, &label), || format!("edge {edge} crosses the label of {other}"));
            }
        }
    }

    /// No two lines run along each other so close that they look like one.
    fn overlaps(&mut self) {
        const CLOSE: i32 = 4;
        const LONG: i32 = 8;
        let mut segments = Vec::new();
        for (edge, route) in self.drawing.routes.iter().enumerate() {
            for pair in route.points.windows(2) {
                let upright = pair[0].x == pair[1].x;
                let (at, low, high) = if upright { (pair[0].x, pair[0].y, pair[1].y) } else { (pair[0].y, pair[0].x, pair[1].x) };
                segments.push((upright, at, low.min(high), low.max(high), edge));
            }
        }
        for (position, a) in segments.iter().enumerate() {
            for b in &segments[position + 1..] {
                let along = a.3.min(b.3) - a.2.max(b.2);
                let close = a.0 == b.0 && a.4 != b.4 && (a.1 - b.1).abs() < CLOSE && along > LONG;
                self.fault(close, || format!("edges {} and {} run together at {} for {along}", a.4, b.4, a.1));
            }
        }
    }
}

/// Numbers without a pattern, the same every time: the generator of the MMIX computer.
pub(in super::super) struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }

    fn size(&mut self, least: Size, most: Size) -> Size {
        let mut between =
            |least: i32, most: i32| least + i32::try_from(self.below(usize::try_from(most - least).unwrap_or(1))).unwrap_or(0);
        Size { w: between(least.w, most.w), h: between(least.h, most.h) }
    }
}

fn random_model(seed: u64) -> Model {
    let mut dice = Dice(seed);
    let mut model = Model::default();
    let count = 2 + dice.below(22);
    for node in 0..count {
        let parent = (node > 0).then(|| if dice.below(2) == 0 { 0 } else { dice.below(node) });
        let size = dice.size(Size { w: 60, h: 20 }, Size { w: 200, h: 90 });
        model.nodes.push(ModelNode { parent, size, beside_heading: false });
    }
    for _ in 0..dice.below(count * 3) {
        let label = (dice.below(8) > 0).then(|| dice.size(Size { w: 20, h: 20 }, Size { w: 190, h: 62 }));
        let (from, to) = (dice.below(count), dice.below(count));
        if model.edges.iter().all(|edge| (edge.from, edge.to) != (from, to)) {
            model.edges.push(ModelEdge { from, to, label, weight: 1 + i64::from(dice.below(3) == 0) });
        }
    }
    for node in 0..count {
        let children = model.children(node);
        if !children.is_empty() {
            let to = children[dice.below(children.len())];
            model.edges.push(ModelEdge { from: model.nodes.len(), to, label: None, weight: 3 });
            model.nodes.push(ModelNode { parent: Some(node), size: Size { w: 12, h: 12 }, beside_heading: true });
        }
    }
    model
}

#[test]
fn random_drawings_have_no_faults() {
    for seed in 0..40 {
        let model = random_model(seed);
        let drawing = lay_out(&model);
        let faults = faults(&model, &drawing);
        assert!(faults.is_empty(), "seed {seed}, {} nodes, {} edges: {faults:#?}", model.nodes.len(), model.edges.len());
    }
}

#[test]
fn an_empty_model_has_a_drawing() {
    let mut model = Model::default();
    model.nodes.push(ModelNode { parent: None, size: Size::default(), beside_heading: false });
    assert!(lay_out(&model).size.w > 0);
}
