package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// whatWide is how much of WHAT is on a line, so that the table has at most a hundred columns; what is longer goes on below.
const whatWide = 37

// show prints all rows. Which command measures a figure again is a number in the table and a line below it.
func show(out io.Writer, rows []row, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(rows)
	}
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CMD\tWHAT\tMEASURED\tBUDGET\tREFERENCE\tRATIO\tVERDICT")
	var commands []string
	for _, r := range rows {
		n := slices.Index(commands, r.Command)
		if n < 0 {
			n, commands = len(commands), append(commands, r.Command)
		}
		budget := number(r.Budget)
		if r.Ratio != nil && r.Budget != nil {
			budget = "ratio " + budget
		}
		what := wrap(r.What, whatWide)
		fmt.Fprintf(w, "%d\t%s\t%s %s\t%s\t%s\t%s\t%s\n", n+1, what[0], number(&r.Measured), strings.Replace(r.Unit, "of a core", "core", 1), budget,
			number(r.Reference), number(r.Ratio), r.Verdict)
		for _, more := range what[1:] {
			fmt.Fprintf(w, "\t  %s\t\t\t\t\t\n", more)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		fmt.Fprintln(out, strings.TrimRight(line, " \n"))
	}
	for i, c := range commands {
		fmt.Fprintf(out, "CMD %d: %s\n", i+1, c)
	}
	for _, r := range rows {
		if r.Note != "" {
			fmt.Fprintf(out, "%s: %s\n", r.What, r.Note)
		}
	}
	return nil
}

// wrap breaks a text between words into lines of at most n bytes, the later ones of n-2; spaces before it stay.
func wrap(text string, n int) []string {
	var lines []string
	for len(text) > n {
		cut := strings.LastIndexByte(text[:n+1], ' ')
		if cut <= 0 || strings.TrimSpace(text[:cut]) == "" {
			cut = n
		}
		lines, text = append(lines, text[:cut]), strings.TrimLeft(text[cut:], " ")
		if len(lines) == 1 {
			n -= 2
		}
	}
	return append(lines, text)
}

func number(v *float64) string {
	switch {
	case v == nil:
		return "-"
	case *v >= 1000:
		return fmt.Sprintf("%.0f", *v)
	}
	return fmt.Sprintf("%.3g", *v)
}
