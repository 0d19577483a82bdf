package main

import (
	"github.com/spf13/cobra"

	"weft/network"
	"weft/session"
	"weft/shell"
)

// controlCommand is weft control.
func (p *program) controlCommand() *cobra.Command {
	var to string
	var timed bool
	cmd := &cobra.Command{
		Use:   "control [NETWORK] [SWITCH CONTROLLER ACTION]",
		Short: "List a running network's control channels, or cut, slow, record or replay one",
		Long:  "Actions:\n" + shell.ControlActions,
		Example: "weft control\n" +
			"weft control s1 c0 delay 50ms 10ms --to switch\n" +
			"weft control s1 c0 record s1.jsonl",
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.Var(choice(&to, "switch", "controller"), "to", "`switch|controller` delay, rate: only messages to that side (both)")
	f.BoolVar(&timed, "timed", false, "replay: answer PACKET_INs too when it was done, not when they come")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := noEmptyValues(f); err != nil {
			return err
		}
		client, _, words, err := dialNetwork(args, 0)
		if err != nil {
			return err
		}
		if len(words) == 0 {
			list, err := client.Channels(cmd.Context())
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(p.out, list)
			}
			shell.WriteChannels(p.out, list)
			return nil
		}
		sw, controller, change, err := shell.ParseControl(words, to, timed)
		if err != nil {
			return &session.UsageError{Err: err}
		}
		state, err := client.SetChannel(cmd.Context(), sw, controller, change)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(p.out, state)
		}
		shell.WriteChannels(p.out, []network.ChannelState{state})
		return nil
	}
	return cmd
}
