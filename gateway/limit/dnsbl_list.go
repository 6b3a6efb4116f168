package limit

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// RFC 5782 §5: these two tell a list from a zone that answers everything.
var (
	alwaysListed = netip.MustParseAddr("127.0.0.2")
	neverListed  = netip.MustParseAddr("127.0.0.1")
)

// trouble notes that a list gave no answer of worth, and warns now and then.
func (d *dnsbl) trouble(l *listState, err error) {
	if d.ctx.Err() != nil {
		return // we are closing, not the list
	}
	unavailable := errors.Is(err, errListTrouble)
	result := "error"
	if unavailable {
		result = "unavailable"
	}
	d.stats.lookup(result)
	now := d.now()
	l.mu.Lock()
	l.status.Asked++
	if unavailable {
		l.status.Unavailable++
	} else {
		l.status.Errors++
	}
	l.status.LastTrouble, l.status.LastError = now, err.Error()
	warn := l.warned.IsZero() || now.Sub(l.warned) >= dnsblWarn
	if warn {
		l.warned = now
	}
	l.mu.Unlock()
	if warn {
		d.log.Warn("a DNSBL gives no answer; its hits are missing", "list", l.Zone, "error", err)
	}
}

func (l *listState) suspended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status.Suspended
}

// checkLists checks all lists now, after a reload, and each hour.
func (d *dnsbl) checkLists() {
	tick := time.NewTicker(listCheck)
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-d.recheck:
		case <-tick.C:
		}
		d.mu.Lock()
		lists := d.lists
		d.mu.Unlock()
		for _, l := range lists {
			d.checkList(l)
		}
	}
}

// checkList suspends a list that names the address which no list may name: a
// list that was given up and now "lists the world" must not stop all mail.
func (d *dnsbl) checkList(l *listState) {
	ctx, cancel := context.WithTimeout(d.ctx, dnsblTime)
	defer cancel()
	addrs, err := d.lookup(ctx, l, neverListed)
	if err != nil {
		d.trouble(l, err)
		return // nothing learned
	}
	everything := false
	for _, a := range addrs {
		everything = everything || answers.Contains(a) && !troubles.Contains(a)
	}
	addrs, err = d.lookup(ctx, l, alwaysListed)
	missing := err == nil && len(addrs) == 0
	l.mu.Lock()
	was := l.status.Suspended
	l.status.Suspended, l.status.NoTestEntry = everything, missing
	l.mu.Unlock()
	if everything && !was {
		d.log.Warn("a DNSBL names every address and is not used until that ends", "list", l.Zone)
	}
	if missing {
		d.log.Warn("a DNSBL has no test entry; is the name right, may we ask it?", "list", l.Zone)
	}
}

// status is for people.
func (d *dnsbl) status() []ListStatus {
	d.mu.Lock()
	lists := d.lists
	d.mu.Unlock()
	all := make([]ListStatus, 0, len(lists))
	for _, l := range lists {
		l.mu.Lock()
		all = append(all, l.status)
		l.mu.Unlock()
	}
	return all
}
