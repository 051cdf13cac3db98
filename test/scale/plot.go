package scale

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// panel is a small plot of curves that share a unit.
type panel struct {
	title  string
	unit   string
	curves []curve
}

// panels groups the curves: a title, and how many of those that follow are in it.
func panels() []panel {
	all := curves()
	var out []panel
	for _, p := range []struct {
		title string
		n     int
	}{{"Memory (RSS) under load", 1}, {"Processor under load", 1}, {"Ingest, PUBLISH to PUBACK", 2}, {"Enrolment", 1}, {"Command, order to end", 2}, {"Restart after kill -9", 3}} {
		out = append(out, panel{p.title, all[0].unit, all[:p.n]})
		all = all[p.n:]
	}
	return out
}

// The measures of the drawing.
const (
	panelWide, panelHigh     = 320.0, 210.0
	left, right, top, bottom = 52.0, 14.0, 34.0, 34.0
	columns                  = 3
)

// colours tell curves of a panel apart, also for who sees few of them.
var colours = [...]string{"#0b5cad", "#c24e00", "#4d4d4d"}

// SVG draws g: one panel for each kind of figure, nodes along the logarithmic axis below, the figure upwards from zero.
func (g *Growth) SVG() []byte {
	var b bytes.Buffer
	all := panels()
	lines := (len(all) + columns - 1) / columns
	wide, high := columns*panelWide, float64(lines)*panelHigh+24
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="10">`+"\n", wide, high)
	fmt.Fprintf(&b, `<rect width="%g" height="%g" fill="#fff"/>`+"\n", wide, high)
	for i := range all {
		fmt.Fprintf(&b, `<g transform="translate(%g,%g)">`+"\n", float64(i%columns)*panelWide, float64(i/columns)*panelHigh)
		all[i].draw(&b, g.Points)
		b.WriteString("</g>\n")
	}
	text(&b, 8, high-8, "start", "#666", "Nodes (logarithmic) against the figure. "+g.origin()+".")
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func text(b *bytes.Buffer, x, y float64, anchor, fill, s string) {
	s = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, fill, s)
}

func (p *panel) draw(b *bytes.Buffer, points []*Load) {
	first, last := math.Log(float64(points[0].Nodes)), math.Log(float64(points[len(points)-1].Nodes))
	most := 0.0
	for i := range p.curves {
		for _, l := range points {
			most = max(most, p.curves[i].of(l))
		}
	}
	step := nice(most / 4)
	highest := max(step, math.Ceil(most/step)*step)
	x := func(nodes int) float64 {
		if last == first {
			return left + (panelWide-left-right)/2
		}
		return left + (math.Log(float64(nodes))-first)/(last-first)*(panelWide-left-right)
	}
	y := func(v float64) float64 { return panelHigh - bottom - v/highest*(panelHigh-top-bottom) }
	text(b, left, 16, "start", "#000", p.title+", "+p.unit)
	for v := 0.0; v <= highest+step/2; v += step {
		fmt.Fprintf(b, `<path d="M%g %.1fH%g" stroke="#ddd"/>`+"\n", left, y(v), panelWide-right)
		text(b, left-4, y(v)+3, "end", "#444", fmt.Sprintf("%.4g", v))
	}
	for _, l := range points {
		text(b, x(l.Nodes), panelHigh-bottom+14, "middle", "#444", fmt.Sprint(l.Nodes))
	}
	for i := range p.curves {
		var path strings.Builder
		for j, l := range points {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(j, 1)], x(l.Nodes), y(p.curves[i].of(l)))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>`+"\n", x(l.Nodes), y(p.curves[i].of(l)), colours[i])
		}
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", path.String(), colours[i])
		if len(p.curves) > 1 {
			text(b, left+6+float64(i)*84, 28, "start", colours[i], short(p.curves[i].name))
		}
	}
}

// short is the part of a curve's name that tells it from the others of its panel.
func short(name string) string {
	for _, mark := range []string{": ", ", "} {
		if _, rest, ok := strings.Cut(name, mark); ok {
			return rest
		}
	}
	return name
}

// nice is the next number upwards of the kind 1, 2 or 5 times a power of ten; 1 for nothing.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= v {
			return m * power
		}
	}
	return 10 * power
}
