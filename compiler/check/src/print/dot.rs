//! The picture for Graphviz.

use super::drawing::{Drawing, Shape, Vertex, drawing};
use crate::model::Model;

/// `flowc graph --format dot`: agents are boxes around their parts, optional arrows are dashed, interceptors are small.
pub fn graph_dot(model: &Model) -> String {
    let drawing = drawing(model);
    let mut out = String::from(
        "digraph flow {\n  rankdir=LR;\n  node [fontname=\"sans-serif\", fontsize=11];\n  edge [fontname=\"sans-serif\", fontsize=9];\n",
    );
    let several = drawing.agents.len() > 1;
    for (agent, title) in drawing.agents.iter().enumerate() {
        let inside: Vec<&Vertex> = drawing.vertices.iter().filter(|vertex| vertex.agent == agent).collect();
        if inside.is_empty() {
            continue;
        }
        // The top level is the paper itself.
        let boxed = several && agent != 0;
        let indent = if boxed { "    " } else { "  " };
        if boxed {
            out.push_str(&format!("  subgraph cluster_{agent} {{\n    label={};\n", quote(title)));
        }
        for vertex in inside {
            out.push_str(&format!("{indent}{} [{}];\n", vertex.id, attributes(vertex)));
        }
        if boxed {
            out.push_str("  }\n");
        }
    }
    arrows(&drawing, &mut out);
    out.push_str("}\n");
    out
}

fn arrows(drawing: &Drawing, out: &mut String) {
    for arrow in &drawing.arrows {
        let (Some(from), Some(to)) = (drawing.vertices.get(arrow.from), drawing.vertices.get(arrow.to))
        else {
            continue;
        };
        let mut attributes = Vec::new();
        if !arrow.label.is_empty() {
            attributes.push(format!("label={}", quote(&arrow.label)));
        }
        if arrow.optional {
            attributes.push("style=dashed".to_owned());
        }
        if to.shape == Shape::Step {
            attributes.push("arrowhead=none".to_owned());
        }
        let attributes =
            if attributes.is_empty() { String::new() } else { format!(" [{}]", attributes.join(", ")) };
        out.push_str(&format!("  {} -> {}{attributes};\n", from.id, to.id));
    }
}

fn attributes(vertex: &Vertex) -> String {
    let shape = match vertex.shape {
        Shape::Source => "shape=cds",
        Shape::Channel => "shape=cylinder",
        Shape::Sink => "shape=box, style=rounded",
        Shape::Group => "shape=component",
        Shape::Topic => "shape=cylinder, peripheries=2",
        Shape::Errors => "shape=box, style=dotted",
        Shape::Step => "shape=ellipse, fontsize=9, height=0.2, margin=\"0.05,0.02\"",
        Shape::Route => "shape=diamond, fontsize=9, margin=\"0.02,0.02\"",
    };
    let label = match vertex.kind.is_empty() || vertex.kind == vertex.name {
        true => vertex.name.clone(),
        false => format!("{}\n{}", vertex.name, vertex.kind),
    };
    format!("label={}, {shape}", quote(&label))
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
