//go:build !linux

package main

import "fmt"

func who()  { fmt.Println("nobody") }
func size() { fmt.Println("no terminal") }
