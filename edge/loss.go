package edge

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// announceStart says that the agent is up, once per life.
func (a *Agent) announceStart(ctx context.Context) error {
	a.tellManager("STATUS=running")
	a.event(api.ClassEvent, "agent.started", "", "skerry-edge "+agent.Version()+" started")
	a.tellReadOnly()
	if path := a.store.SetAside(); path != "" {
		text := "the state was damaged and is set aside as " + filepath.Base(path) +
			": which commands were done, the desired document and remote settings begin anew"
		err := a.outbox.PutEvent(api.ClassAlarm, stateDamaged, "state.db", text, nil)
		if err == nil { // a kill before this has the next start tell it
			err = a.store.Told()
		}
		if err != nil {
			a.log.Warn("event not kept", agent.KeyReason, text, agent.KeyErr, err)
		}
	}
	<-ctx.Done()
	return nil
}

// stateDamaged is the kind of an event that tells what a node lost of its durable state.
const stateDamaged = "state.damaged"

func (a *Agent) journalDamaged(records int) {
	if err := a.store.Lose(); err != nil {
		a.log.Error("journal not dated", agent.KeyErr, err)
	}
	a.event(api.ClassAlarm, stateDamaged, "commands", fmt.Sprintf("%d records of the command journal could not be read and are removed", records))
}
