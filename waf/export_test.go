package waf

import "github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"

func (t *Transaction) remoteAddr() string {
	return t.tx.(plugintypes.TransactionState).Variables().RemoteAddr().Get()
}
