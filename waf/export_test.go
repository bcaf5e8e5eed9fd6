package waf

func (t *Transaction) remoteAddr() string {
	return t.state().Variables().RemoteAddr().Get()
}
