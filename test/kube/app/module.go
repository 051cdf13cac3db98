//go:build wasip1

package main

import "errors"

var errNone = errors.New("a module has neither network nor terminal")

func serve(string) error { return errNone }

func terminal() error { return errNone }
