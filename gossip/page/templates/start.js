/* The document that the page carries. A live page calls Page.show with later ones. */
Page.show(JSON.parse(byId("document").textContent));
